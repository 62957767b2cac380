from services.risk.main import app

app()
