// What the tests and the benchmark share: a server, a browser, a native peer.

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

import { chromium } from "playwright-core";

export const REPOSITORY = fileURLToPath(new URL("../..", import.meta.url));
export const PAGE = `${REPOSITORY}examples/chat_web`;

const CHROMIUM = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/** A Chromium that speaks with nobody but this machine. */
export function launch() {
  const executablePath = process.env.CHROMIUM ?? CHROMIUM.find(existsSync);
  return chromium.launch({
    executablePath,
    headless: true,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--allow-loopback-in-peer-connection",
    ],
  });
}

/** A program and what it prints, line by line. */
export class Program {
  #child;
  #lines = [];
  #waiting = [];

  constructor(path, args) {
    this.#child = spawn(path, args, { stdio: ["ignore", "pipe", "ignore"] });
    this.exited = new Promise((resolve) => this.#child.on("exit", (code) => resolve(code)));
    createInterface({ input: this.#child.stdout }).on("line", (line) => {
      const waiting = this.#waiting.shift();
      if (waiting) waiting(line);
      else this.#lines.push(line);
    });
  }

  line() {
    const line = this.#lines.shift();
    return line === undefined ? new Promise((resolve) => this.#waiting.push(resolve)) : Promise.resolve(line);
  }

  /** The next JSON object whose `event` is this one. */
  async event(name) {
    for (;;) {
      const found = JSON.parse(await this.line());
      if (found.event === name) return found;
      if (found.event === "error") throw new Error(found.text);
    }
  }

  stop() {
    this.#child.kill();
  }

  /** Without a chance to say goodbye. */
  kill() {
    this.#child.kill("SIGKILL");
  }
}

/** The signaling server, which serves the chat page as well. */
export async function serve(path) {
  const program = new Program(path, ["--listen", "127.0.0.1:0", "--serve", PAGE]);
  const address = (await program.line()).replace("listening on ", "");
  return { page: `http://${address}/`, url: `ws://${address}`, stop: () => program.stop() };
}

export async function within(milliseconds, what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${milliseconds} ms`)), milliseconds);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
