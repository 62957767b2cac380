from services.governance.main import app

app()
