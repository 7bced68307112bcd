/**
 * Logs of strangers: whatever stands in one is shown as text, or refused by file and line.
 *
 * @module
 */

import { assert, assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { DataError } from "@firn/train";
import { memoryFileSystem } from "@firn/train/data";
import { explain, explanationText, type Line, readLog, renderReport, reportOf } from "@firn/train/report";

const EVIL = "</td><script>alert(1)</script>\x1b[2J\x1b]0;t\x07\"'\u202e";
const COST = { launches: 9, flops: 9, matmulFlops: 9, bytes: 9, memory: 9, constants: 0 };
const STEP = {
  kind: "step",
  step: 1,
  loss: 2,
  learningRate: 0.1,
  stepMs: 5,
  launches: 9,
  flops: 9,
  frozen: 0,
  readings: { [EVIL]: { [EVIL]: 3 } },
};
const LOG = {
  start: { kind: "start", config: { [EVIL]: EVIL, policy: EVIL, model: EVIL }, adapter: EVIL, sample: EVIL },
  components: {
    kind: "components",
    components: [{
      path: EVIL,
      layer: 0,
      parameters: [EVIL],
      kind: EVIL,
      size: 4,
      cost: { forward: 3, dX: 3, dW: 3, depth: 0 },
    }],
  },
  step: STEP,
  freeze: {
    kind: "freeze",
    step: 1,
    frozen: [EVIL],
    thawed: [],
    before: COST,
    after: COST,
    reasons: { [EVIL]: { signal: EVIL, value: 3, threshold: 4, rule: EVIL } },
  },
  evaluation: { kind: "evaluation", step: 1, set: EVIL, metrics: { [EVIL]: 1 } },
  sample: { kind: "sample", step: 1, text: EVIL },
  end: { kind: "end", sample: EVIL, ending: { reason: "steps", step: 1, best: null } },
};

function read(lines: readonly unknown[]): Promise<Line[]> {
  const text = lines.map((line) => (typeof line === "string" ? line : JSON.stringify(line)) + "\n").join("");
  return readLog("run/metrics.jsonl", { fileSystem: memoryFileSystem({ "run/metrics.jsonl": text }) });
}

function pageOf(lines: readonly Line[]): Promise<string> {
  const components = lines.flatMap((line) => line.kind === "components" ? line.components : []);
  return renderReport(reportOf(lines, { title: "a log", summary: [], components }));
}

Deno.test("a log whose every text is markup and escapes gives a page and a text without either", async () => {
  const lines = await read(Object.values(LOG));
  const page = await pageOf(lines);
  assertEquals(page.match(/<script/gi), null);
  assertStringIncludes(page, "&lt;script&gt;alert(1)&lt;/script&gt;");
  const text = explanationText(explain(lines), { color: false });
  assertEquals(["\x1b", "\x07", "\u202e"].filter((control) => text.includes(control)), []);
  assertStringIncludes(text, "</td><script>");
});

Deno.test("a record of a log that has the fields of marked text is refused, and is text in a page", async () => {
  const rule = { text: "<script>alert(1)</script>" };
  const freeze = { ...LOG.freeze, reasons: { [EVIL]: { ...LOG.freeze.reasons[EVIL], rule } } };
  const lines = [LOG.start, LOG.components, LOG.step, freeze, LOG.end] as unknown as Line[];
  assertEquals((await pageOf(lines)).match(/<script/gi), null);
  await assertRejects(() => read(lines), DataError, "rule must be text: it is an object");
});

Deno.test("a log in which no number was measured is explained and rendered", async () => {
  const step = {
    ...STEP,
    loss: null,
    validation: null,
    learningRate: null,
    readings: { gradNorm: { a: null } },
  };
  const reason = { signal: "gradNorm", value: null, threshold: null, rule: "r" };
  const lines = await read([
    { ...LOG.start, perplexity: null, accuracy: null, sample: null },
    LOG.components,
    step,
    { ...step, step: 2 },
    { ...LOG.freeze, step: 2, reasons: { [EVIL]: reason } },
    { ...LOG.end, perplexity: null },
  ]);
  const shown = explanationText(explain(lines), { color: false }) + await pageOf(lines);
  assertEquals(shown.match(/NaN|undefined|Infinity/g), null);
});

const deep = (n: number) => `{"kind":"start","adapter":"a","config":{"a":${"[".repeat(n)}${"]".repeat(n)}}}`;

/** The line of a component with other fields. */
const partOf = (more: object) => ({
  ...LOG.components,
  components: [{ ...LOG.components.components[0], ...more }],
});

/** Lines that are none, the number of the line, and what is said of it. */
const DAMAGED: readonly (readonly [readonly unknown[], number, string])[] = [
  [["{"], 1, 'it is no JSON, "{"'],
  [["null"], 1, "it must be an object: it is null"],
  [["[]"], 1, "it must be an object: it is a list"],
  [[STEP], 1, 'kind is "step"'],
  [[LOG.start, LOG.start], 2, 'kind is "start"'],
  [[LOG.start, { kind: "constructor" }], 2, "kind must be one of"],
  [[{ ...LOG.start, config: 5 }], 1, "config must be an object: it is 5"],
  [[{ ...LOG.start, config: undefined }], 1, "config must be an object: it is missing"],
  [[{ ...LOG.start, perplexity: "1" }], 1, 'perplexity must be a number: it is "1"'],
  [[deep(40)], 1, "it must nest 32 deep at most"],
  [[deep(200_000)], 1, "it must nest 32 deep at most"],
  [[LOG.start, { ...STEP, loss: "x" }], 2, 'loss must be a number or null: it is "x"'],
  [[LOG.start, JSON.stringify(STEP).replace('"loss":2', '"loss":1e999')], 2, 'finite: "loss" is not'],
  [[JSON.stringify(LOG.start).replace(/"config":\{/, '$&"steps":1e999,')], 1, 'finite: "steps" is not'],
  [[LOG.start, { ...STEP, step: 1.5 }], 2, "step must be a whole number from 0: it is 1.5"],
  [[LOG.start, { ...STEP, readings: { a: [1] } }], 2, 'readings["a"] must be an object: it is a list'],
  [[LOG.start, { ...STEP, stepMs: undefined }], 2, "stepMs must be a number: it is missing"],
  [[LOG.start, { ...LOG.freeze, frozen: "a" }], 2, 'frozen must be a list: it is "a"'],
  [[LOG.start, { ...LOG.freeze, frozen: [{}] }], 2, "frozen[0] must be text: it is an object"],
  [[LOG.start, { ...LOG.freeze, before: null }], 2, "before must be an object: it is null"],
  [[LOG.start, { ...LOG.freeze, reasons: { a: null } }], 2, 'reasons["a"] must be an object: it is null'],
  [
    [LOG.start, { ...LOG.freeze, thawed: Array(60_000).fill("a") }],
    2,
    "thawed must have 50000 entries at most",
  ],
  [[LOG.start, { kind: "components", components: [{}] }], 2, "components[0].path must be text"],
  [
    [LOG.start, partOf({ parameters: undefined })],
    2,
    "components[0].parameters must be a list: it is missing",
  ],
  [[LOG.start, partOf({ parameters: [5] })], 2, "components[0].parameters[0] must be text: it is 5"],
  [[LOG.start, partOf({ layer: undefined })], 2, "components[0].layer must be a whole number from 0 or null"],
  [[LOG.start, partOf({ cost: null })], 2, "components[0].cost must be an object: it is null"],
  [[LOG.start, { ...LOG.freeze, after: { ...COST, exchanged: "1" } }], 2, "after.exchanged must be a number"],
  [[LOG.start, { ...LOG.end, ending: { reason: "steps", step: 1 } }], 2, "ending.best must be"],
  [[LOG.start, { ...LOG.end, ending: { reason: "x" } }], 2, "ending.reason must be steps, frozen or stopped"],
];

Deno.test("a damaged line is refused by file, line and field", async () => {
  for (const [lines, number, seen] of DAMAGED) {
    const { message } = await assertRejects(() => read(lines), DataError);
    assert(message.startsWith(`Cannot read the log "run/metrics.jsonl" as line ${number} must be `), message);
    assertStringIncludes(message, seen);
  }
});

Deno.test("a log of a run that is under way has a report", async () => {
  assertStringIncludes(await pageOf(await read([LOG.start, LOG.components, STEP])), "<h1>");
});

Deno.test("a log that is empty is refused", async () => {
  await assertRejects(() => read([]), DataError, "it is empty; wait until the run has begun");
});

Deno.test("a log of 200,000 steps with validation is explained and drawn", async () => {
  const steps = Array.from(
    { length: 200_000 },
    (_, i): Line => ({ ...STEP, kind: "step", step: i + 1, validation: 1, readings: {} }),
  );
  const lines: Line[] = [{ kind: "start", config: {}, adapter: "a" }, ...steps];
  lines.push({ kind: "end" });
  assertEquals(explain(lines).steps, 200_000);
  assertStringIncludes(await pageOf(lines), "1 at best");
});

Deno.test("a record in the place of the model's name is shown as JSON, whatever its fields are", async () => {
  const start = { ...LOG.start, config: { model: { toString: "x", valueOf: 1 }, policy: ["a"] } };
  const lines = await read([start, LOG.step]), text = explanationText(explain(lines), { color: false });
  assertStringIncludes(text, '{"toString":"x","valueOf":1}');
  assertStringIncludes(text, '["a"]');
  assert((await pageOf(lines)).includes("&quot;toString&quot;"));
});

Deno.test("explain and reportOf refuse lines without the start of a run", () => {
  for (const lines of [[], [LOG.step, LOG.end]] as unknown as Line[][]) {
    assertThrows(() => explain(lines), DataError, `none of ${lines.length} lines is`);
    assertThrows(() => reportOf(lines, { title: "", summary: [], components: [] }), DataError, "must begin");
  }
});
