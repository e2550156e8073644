#!/usr/bin/env node
// Runs the program of the package for this platform, which npm installs as an optional dependency.
"use strict";

const { spawn } = require("node:child_process");

const name = `kapell-${process.platform}-${process.arch}`;

function findProgram() {
  try {
    return require.resolve(`${name}/bin/kapell`);
  } catch {
    return undefined;
  }
}

function run(program) {
  const arguments_ = process.argv.slice(2);
  // Newer versions of Node.js replace this process, so that signals and the terminal need nothing else.
  if (typeof process.execve === "function") {
    try {
      process.execve(program, [program, ...arguments_], process.env);
    } catch (error) {
      // Not on this platform.
    }
  }
  // A terminal sends these to the whole process group, and the program must not get them twice.
  const ofTerminal = process.stdin.isTTY ? ["SIGINT", "SIGQUIT"] : [];
  for (const signal of ["SIGINT", "SIGQUIT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"]) {
    process.on(signal, () => ofTerminal.includes(signal) || child.kill(signal));
  }
  const child = spawn(program, arguments_, { stdio: "inherit" });
  child.on("error", (error) => {
    console.error(`error: cannot start \`${program}\`: ${error.message}`);
    process.exitCode = 1;
  });
  child.on("exit", (code, signal) => {
    if (signal === null) {
      process.exitCode = code;
    } else {
      process.removeAllListeners(signal);
      process.kill(process.pid, signal);
    }
  });
}

const program = findProgram();
if (program === undefined) {
  console.error(
    `error: the package \`${name}\` is not installed\n` +
      "  help: reinstall `kapell` without `--omit=optional`; kapell supports Linux (glibc) and macOS, on x64 and arm64",
  );
  process.exitCode = 1;
} else {
  run(program);
}
