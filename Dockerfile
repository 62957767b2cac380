# One image a service: docker build --target inventory -t colonnade/inventory .
# Each holds its own service, the shared backbone and the packages of its extra, at the versions and hashes of the lock.
FROM python:3.13-slim AS builder
ENV UV_LINK_MODE=copy PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
COPY requirements-uv.lock requirements.lock pyproject.toml ./
RUN python -m pip install --no-cache-dir --require-hashes -r requirements-uv.lock && python -m venv /venv

FROM python:3.13-slim AS runtime
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin colonnade
COPY shared ./shared
USER 10001:10001

FROM builder AS inventory-packages
RUN uv pip install --python /venv --require-hashes --compile-bytecode -r pyproject.toml --extra inventory -c requirements.lock
FROM runtime AS inventory
COPY --from=inventory-packages /venv /venv
COPY services/__init__.py ./services/__init__.py
COPY services/inventory ./services/inventory
ENTRYPOINT ["python", "-m", "services.inventory"]
CMD ["serve"]

FROM builder AS risk-packages
RUN uv pip install --python /venv --require-hashes --compile-bytecode -r pyproject.toml --extra risk -c requirements.lock
FROM runtime AS risk
COPY --from=risk-packages /venv /venv
COPY services/__init__.py ./services/__init__.py
COPY services/risk ./services/risk
ENTRYPOINT ["python", "-m", "services.risk"]
CMD ["serve"]

FROM builder AS detection-packages
RUN uv pip install --python /venv --require-hashes --compile-bytecode -r pyproject.toml --extra detection -c requirements.lock
FROM runtime AS detection
COPY --from=detection-packages /venv /venv
COPY services/__init__.py ./services/__init__.py
COPY services/detection ./services/detection
ENTRYPOINT ["python", "-m", "services.detection"]
CMD ["serve"]

FROM builder AS incidents-packages
RUN uv pip install --python /venv --require-hashes --compile-bytecode -r pyproject.toml --extra incidents -c requirements.lock
FROM runtime AS incidents
COPY --from=incidents-packages /venv /venv
COPY services/__init__.py ./services/__init__.py
COPY services/incidents ./services/incidents
ENTRYPOINT ["python", "-m", "services.incidents"]
CMD ["serve"]

FROM builder AS governance-packages
RUN uv pip install --python /venv --require-hashes --compile-bytecode -r pyproject.toml --extra governance -c requirements.lock
FROM runtime AS governance
COPY --from=governance-packages /venv /venv
COPY services/__init__.py ./services/__init__.py
COPY services/governance ./services/governance
ENTRYPOINT ["python", "-m", "services.governance"]
CMD ["serve"]

FROM builder AS metrics-packages
RUN uv pip install --python /venv --require-hashes --compile-bytecode -r pyproject.toml --extra metrics -c requirements.lock
FROM runtime AS metrics
COPY --from=metrics-packages /venv /venv
COPY services/__init__.py ./services/__init__.py
COPY services/metrics ./services/metrics
ENTRYPOINT ["python", "-m", "services.metrics"]
CMD ["serve"]

FROM builder AS gateway-packages
RUN uv pip install --python /venv --require-hashes --compile-bytecode -r pyproject.toml --extra gateway -c requirements.lock
FROM runtime AS gateway
COPY --from=gateway-packages /venv /venv
COPY gateway ./gateway
ENTRYPOINT ["python", "-m", "gateway"]
CMD ["serve"]
