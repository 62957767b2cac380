from services.metrics.main import app

app()
