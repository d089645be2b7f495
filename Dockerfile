# The workflow and its environment: docker build -t partialres . ; docker run -v "$PWD/results:/work/results" partialres
FROM python:3.12-slim
RUN apt-get update && apt-get install --yes --no-install-recommends curl git make && rm -rf /var/lib/apt/lists/*
WORKDIR /work
COPY . .
RUN python -m venv .venv && .venv/bin/pip install --no-cache-dir --constraint constraints.txt --editable . && touch .venv/.ready
CMD ["make", "reproduce"]
