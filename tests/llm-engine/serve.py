#!/usr/bin/env python3
"""Serves a model file on the loopback interface with llama.cpp's own HTTP server."""

import argparse
import os
import signal
import sys
import threading

import xllamacpp


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="the model file, as make_gguf.py writes it")
    parser.add_argument("--port", type=int, default=0, help="0 for any free port")
    parser.add_argument("--slots", type=int, default=4, help="requests that are answered at once")
    parser.add_argument("--context", type=int, default=16384, help="tokens of context for each slot")
    parser.add_argument("--alias", default="tiny-random", help="the model's name in replies")
    parser.add_argument(
        "--until-stdin-closes", action="store_true", help="end when standard input does, so as not to outlive a test"
    )
    return parser.parse_args()


def parameters(options):
    """Everything on one thread and on the CPU, so that a test machine stays usable."""
    params = xllamacpp.CommonParams()
    params.model.path = options.model
    params.model_alias = {options.alias}
    params.hostnames = ["127.0.0.1"]
    params.port = options.port
    params.n_parallel = options.slots
    params.n_ctx = options.slots * options.context
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.n_gpu_layers = 0
    params.cache_ram_mib = 0
    params.fit_params = False
    params.warmup = False
    if seed := os.environ.get("LLM_SEED"):
        params.sampling.seed = int(seed)
    if key := os.environ.get("LLM_KEY"):
        params.api_keys = [key]
    return params


def main():
    options = arguments()
    server = xllamacpp.Server(parameters(options))
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    if options.until_stdin_closes:
        threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    print("READY", server.listening_address, flush=True)
    # With a timeout, because a wait without one would keep Python from running the signal handlers.
    while not ended.wait(0.5):
        pass
    # The engine's threads do not end by themselves.
    os._exit(0)


if __name__ == "__main__":
    main()
