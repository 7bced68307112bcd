/**
 * Talking to the PyTorch twin, with a fake of it.
 *
 * @module
 */

import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { openGpu } from "@firn/train";
import { measureEntry, visitTwin, withPeers } from "./bench.ts";
import { PRODUCT } from "./sides.ts";
import { askTwin, parseTwin } from "./twin.ts";
import { productEntry } from "./works.ts";

const WAYS = ["f32"] as const;
const LENGTHS = { rounds: 4, turn: 10, warmUp: 5 };
const MACHINE = { device: "H100", driver: "580", torch: "2.11.0", transformers: null, cuda: "13.0" };
const SIDE = {
  work: 0,
  name: "cuBLAS",
  side: PRODUCT,
  first: 9,
  times: [1.5, 2.5],
  unclipped: null,
  memory: null,
  loss: null,
};
const PRINTED = ["a warning", JSON.stringify(MACHINE), JSON.stringify(SIDE), "{} is no contender"];

/** A program that writes down what it is asked, then prints some lines and ends. */
async function withFake(
  { lines, code = 0 }: { readonly lines: readonly string[]; readonly code?: number },
  use: (command: readonly string[], asked: () => { works: unknown[]; rounds: number }[]) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    const said = lines.map((text) => `echo '${text}'`).join("\n");
    const script = `echo "$1" >>${folder}/asked\n${said}\necho "no torch here" >&2\nexit ${code}\n`;
    await Deno.writeTextFile(`${folder}/python3`, script);
    const asked = () =>
      Deno.readTextFileSync(`${folder}/asked`).trim().split("\n").map((text) => JSON.parse(text));
    await use(["sh", `${folder}/python3`], asked);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("parseTwin finds the machine and the contenders among other lines", () => {
  assertEquals(parseTwin(PRINTED.slice(0, 3).join("\n"), 1), {
    machine: MACHINE,
    sides: [SIDE],
    leftOut: [],
  });
});

Deno.test("parseTwin refuses an answer without the machine, or without a work", () => {
  assertThrows(() => parseTwin(JSON.stringify(SIDE), 1), Error, "did not name its machine");
  assertThrows(
    () => parseTwin(JSON.stringify(MACHINE), 1),
    Error,
    "measured 0 contenders and none of work 0",
  );
});

Deno.test("askTwin says what failed: no program, or the last line that it printed", async () => {
  await withFake({ lines: [], code: 1 }, async (command) => {
    await assertRejects(
      () => askTwin([], { ...LENGTHS, ways: WAYS }, command),
      Error,
      '"sh" ended with status 1: no torch here',
    );
  });
  await assertRejects(
    () => askTwin([], { ...LENGTHS, ways: WAYS }, ["/nowhere/python3"]),
    Error,
    'Cannot run the PyTorch twin as "/nowhere/python3" does not start: ',
  );
});

Deno.test("visitTwin asks for all works in one process, for half of the rounds", async () => {
  const product = (n: number) => productEntry({ m: 32, n, k: 32, layout: "NT" }, { recorded: 1e5 });
  const entries = [product(32), { ...product(48), twin: null }, product(64)];
  const lines = [JSON.stringify(MACHINE), JSON.stringify(SIDE), JSON.stringify({ ...SIDE, work: 1 })];
  await withFake({ lines }, async (twin, asked) => {
    const { machine, peers } = await visitTwin(entries, { lengths: LENGTHS, ways: WAYS, twin });
    assertEquals(machine, MACHINE);
    assertEquals([...peers.keys()], [entries[0], entries[2]]);
    assertEquals(peers.get(entries[2]), [{ ...SIDE, work: 1 }]);
    const works = [32, 64].map((n) => ({ kind: "product", m: 32, n, k: 32, layout: "NT", lossAt: 1 }));
    assertEquals(asked().map(({ works, rounds }) => [works, rounds]), [[works, 2]]);
  });
});

Deno.test("parseTwin names what PyTorch left out, and refuses a work of which nothing is left", () => {
  const left = JSON.stringify({ leftOut: "llama compile, work 0: no C compiler" });
  assertEquals(parseTwin([...PRINTED.slice(0, 3), left].join("\n"), 1).leftOut, [
    "llama compile, work 0: no C compiler",
  ]);
  assertThrows(() => parseTwin([PRINTED[1], left].join("\n"), 1), Error, "no C compiler");
});

Deno.test("withPeers puts the rounds of all visits into one side", async () => {
  await using gpu = await openGpu();
  const own = await measureEntry(
    gpu,
    productEntry({ m: 32, n: 32, k: 32, layout: "NT" }, { recorded: 1e5 }),
    LENGTHS,
  );
  assertEquals(withPeers(own, []), own);
  const later = { ...SIDE, times: [3.5, 4.5] };
  const row = withPeers(own, [[SIDE], [later]]);
  assertEquals(row.sides.map(({ name, times }) => [name, times.length]), [["Firn", 4], ["cuBLAS", 4]]);
  assertEquals(row.sides[1].ms, { median: 3, min: 1.5, max: 4.5 });
});
