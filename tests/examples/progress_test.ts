/**
 * What moves on the screen: stages and the bar of a run.
 *
 * @module
 */

import { assertEquals, assertRejects } from "@std/assert";
import { evaluate, mean, multiply, type OnProgress, type Tensor, tensor } from "@firn/train";
import { loadModel } from "@firn/train/hub";
import {
  byteStage,
  type Display,
  progress,
  rateText,
  stage,
  type Stream,
  transferBar,
} from "../../examples/progress.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

/** A stream that keeps what is written, as a terminal or as a file. */
function stream(terminal: boolean): Stream & { readonly written: string[] } {
  const written: string[] = [];
  const writeSync = (bytes: Uint8Array): number => {
    written.push(new TextDecoder().decode(bytes));
    return bytes.length;
  };
  return { written, isTerminal: () => terminal, writeSync };
}

Deno.test("stage says what begins before any work, redraws on a terminal and leaves nothing there", async () => {
  const to = stream(true);
  const result = await stage("loading  a model", (say) => {
    assertEquals(to.written, ["\r\x1b[Kloading  a model"]);
    say("1 of 2 MB");
    return 7;
  }, { to });
  assertEquals(result, 7);
  assertEquals(to.written.slice(1), ["\r\x1b[Kloading  a model: 1 of 2 MB", "\r\x1b[K"]);
  await assertRejects(() => stage("a", () => Promise.reject(new Error("b")), { to }), Error, "b");
  assertEquals(to.written.at(-1), "\r\x1b[K");
});

Deno.test("stage prints one line without an escape code where there is no terminal", async () => {
  const to = stream(false);
  await stage("loading  \x1b[31ma model", (say) => say("1 of 2 MB"), { to });
  assertEquals(to.written, ["loading  a model\n"]);
});

Deno.test("transferBar shows bytes and the time that is left, also when there is nothing to transfer", () => {
  const said: string[] = [], bar = transferBar((fact) => said.push(fact));
  bar({ done: 0, total: 8_000_000 });
  bar({ done: 2_000_000, total: 8_000_000 });
  bar({ done: 0, total: 0 });
  assertEquals(said[0], `${"░".repeat(24)} 0.0 of 8.0 MB  ETA ?`);
  assertEquals(said[1], `${"█".repeat(6)}${"░".repeat(18)} 2.0 of 8.0 MB  ETA 0:00`);
  assertEquals(said[2], `${"█".repeat(24)} 0.0 of 0.0 MB  ETA ?`);
});

Deno.test("progress moves at each step on a terminal, and keeps facts and pace of the last look", () => {
  const [live, file] = [stream(true), stream(false)];
  for (const to of [live, file]) {
    const bar = progress(100, { to });
    bar.update(0, ["compiling"]);
    bar.move(1);
    bar.update(10, ["loss 2"]);
    bar.move(11);
    bar.end();
  }
  // deno-lint-ignore no-control-regex
  const seen = live.written.map((text) => text.replace(/[█░\r]|\x1b\[K/g, "").trim());
  assertEquals(seen, [
    "0/100  compiling  ETA ?",
    "1/100  compiling  ETA ?",
    "10/100  loss 2  ETA 0:00",
    "11/100  loss 2  ETA 0:00",
    "",
  ]);
  assertEquals(file.written.length, 2);
  assertEquals(file.written.some((text) => text.includes("\x1b")), false);
});

Deno.test("loadModel tells of the bytes of all parameters, one after the other", async () => {
  await using gpu = await openTestGpu();
  const seen: { done: number; total: number }[] = [];
  await loadModel(gpu, "examples/models/sotu", { onProgress: (now) => seen.push(now) });
  assertEquals(seen.length, 47);
  assertEquals(seen.every(({ done }, i) => done > (seen[i - 1]?.done ?? 0)), true);
  assertEquals(seen.at(-1), { done: 2339584, total: 2339584 });
});

Deno.test("evaluate tells of the batches that are done, and gives the same loss as in silence", async () => {
  await using gpu = await openTestGpu();
  const loss = ({ w }: { w: Tensor }, { x }: { x: Tensor }): Tensor => mean(multiply(w, x));
  const batches = Array.from({ length: 9 }, (_, i) => ({ x: tensor([i, 3 * i]) }));
  const options = { loss, params: { w: tensor([1, 1]) }, batches }, seen: number[] = [];
  const told = await evaluate(gpu, { ...options, onProgress: ({ done, total }) => seen.push(done / total) });
  assertEquals(told, await evaluate(gpu, options));
  // Portions double while they are quick.
  assertEquals(seen, [0, 1, 3, 7, 9].map((done) => done / 9));
});

Deno.test("byteStage draws a bar on a terminal, and is one plain line elsewhere, however long it takes", async () => {
  const [live, file] = [stream(true), stream(false)], now = performance.now;
  for (const to of [live, file]) {
    let passed = 0;
    performance.now = () => passed;
    const work = (onProgress: OnProgress) => {
      for (const done of [1e6, 2e6, 4e6]) {
        passed += 20_000;
        onProgress({ done, total: 4e6 });
      }
      return Promise.resolve(1);
    };
    try {
      assertEquals(await byteStage("loading     m, 4.0 MB", work, { to }), 1);
    } finally {
      performance.now = now;
    }
  }
  assertEquals(file.written, ["loading     m, 4.0 MB\n"]);
  assertEquals(live.written.at(-2)?.includes(`${"█".repeat(24)} 4.0 of 4.0 MB`), true);
});

Deno.test("progress is a bar, lines or nothing where that is asked for, and lines that are said always stay", () => {
  const shown = (display: Display, terminal: boolean): string => {
    const to = stream(terminal), bar = progress(10, { to, display });
    bar.update(5, ["loss 2"]);
    bar.say("saved");
    bar.end();
    return to.written.join("");
  };
  assertEquals(shown("auto", true), shown("bar", false));
  assertEquals(shown("auto", false), shown("lines", true));
  assertEquals(shown("none", true), "saved\n");
});

Deno.test("rateText has steps a second, or seconds a step where one takes longer", () => {
  assertEquals([rateText(50), rateText(999.9), rateText(2500)], [
    "20.0 steps/s",
    "1.00 steps/s",
    "2.50 s/step",
  ]);
});
