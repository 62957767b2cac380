from services.incidents.main import app

app()
