"""llama.cpp's server, from the package xllamacpp: FILE PORT; ends with its standard input."""

import sys

import xllamacpp

params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.hostnames = ["127.0.0.1"]
params.port = int(sys.argv[2])
params.n_parallel = 2
params.n_ctx = 2048
params.endpoint_metrics = True
server = xllamacpp.Server(params)
print("ready", flush=True)
sys.stdin.read()
