/**
 * What the benchmark says of the machine, and where.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { openDevice } from "../../examples/gpu.ts";
import { driverIn, openBenchDevice } from "./machine.ts";

Deno.test("driverIn finds the version of the NVIDIA driver, open or not, and null in nothing", () => {
  const gcc = "\nGCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1~22.04)\n";
  const closed = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024";
  const open =
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159  Release Build  (dvs-builder)";
  assertEquals([closed + gcc, open + gcc, ""].map(driverIn), ["535.183.01", "580.159", null]);
});

Deno.test("openDevice draws how far tuning is where it is told to", async () => {
  const written: string[] = [];
  const to = {
    isTerminal: () => true,
    writeSync(bytes: Uint8Array) {
      written.push(new TextDecoder().decode(bytes));
      return bytes.length;
    },
  };
  await using gpu = await openDevice({ "no-tune": true }, { to });
  assertEquals(written.splice(0), ["\r\x1b[Kopening     the GPU", "\r\x1b[K"]);
  gpu.tuning.onProgress!({ done: 1, total: 2 });
  gpu.tuning.onProgress!({ done: 2, total: 2 });
  assertEquals(written.map((text) => text.match(/\d\/\d {2}tuning matrix products|\n$/)?.[0]), [
    "1/2  tuning matrix products",
    "2/2  tuning matrix products",
    "\n",
  ]);
});

Deno.test("openBenchDevice leaves standard output alone while it tunes, for tables and JSON", async () => {
  const written: string[] = [];
  const keep = (name: "stdout" | "stderr") => (bytes: Uint8Array) => {
    written.push(name);
    return bytes.length;
  };
  await using gpu = await openBenchDevice({ "no-tune": true });
  try {
    Deno.stdout.writeSync = keep("stdout");
    Deno.stderr.writeSync = keep("stderr");
    gpu.tuning.onProgress!({ done: 2, total: 2 });
  } finally {
    // What stands before the prototype's.
    for (const stream of [Deno.stdout, Deno.stderr]) Reflect.deleteProperty(stream, "writeSync");
  }
  assertEquals([...new Set(written)], ["stderr"]);
});
