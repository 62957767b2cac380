from services.detection.main import app

app()
