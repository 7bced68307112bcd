/**
 * Logs of runs, and what is made of them.
 *
 * @module
 */

import {
  explain,
  explanationText,
  type Line,
  openLog,
  readLog,
  renderComparison,
  renderReport,
  reportOf,
} from "@firn/train/report";
import type { Draw } from "../draw.ts";
import { mutateBytes } from "../mutate_bytes.ts";
import { mutateJson } from "../mutate_json.ts";
import { type Context, demand, type Format } from "./types.ts";

const FILE = "metrics.jsonl", STEPS = 6;

const cost = { launches: 3, flops: 100, matmulFlops: 90, bytes: 40, constants: 1, memory: 50 };
const component = (path: string) => ({
  path,
  parameters: [`${path}.weight`],
  layer: 0,
  kind: "linear" as const,
  size: 8,
  cost: { forward: 8, dX: 8, dW: 8, depth: 1 },
});

const LINES: readonly Line[] = [
  {
    kind: "start",
    config: { steps: STEPS, model: "small" },
    adapter: "none",
    perplexity: 9,
    sample: "the whale",
  },
  { kind: "components", components: [component("a"), component("b")] },
  ...Array.from({ length: STEPS }, (_, i): Line => ({
    kind: "step",
    step: i + 1,
    loss: 2 / (i + 1),
    validation: 2.5 / (i + 1),
    learningRate: 0.1,
    tokensPerSecond: 100,
    metrics: { "rewards/margins": i },
    stepMs: 2,
    launches: 3,
    flops: 100,
    frozen: i < 3 ? 0 : 1,
    readings: { gradNorm: { a: 1 / (i + 1), b: 2 } },
  })),
  { kind: "evaluation", step: 3, set: "easy", metrics: { loss: 1.5, accuracy: null } },
  { kind: "sample", step: 3, text: "the ship" },
  {
    kind: "freeze",
    step: 3,
    frozen: ["a"],
    thawed: [],
    before: cost,
    after: { ...cost, flops: 80 },
    reasons: { a: { signal: "gradNorm", value: 0.3, threshold: 0.4, rule: "below" } },
  },
  { kind: "end", perplexity: 4, sample: "the ship", ending: { reason: "steps", step: STEPS, best: null } },
];

async function load({ folder }: Context): Promise<void> {
  const lines = await readLog(`${folder}/${FILE}`);
  const text = explanationText(explain(lines), { color: false });
  const report = reportOf(lines, { title: "a run", summary: [], components: [] });
  const page = await renderReport(report), compared = await renderComparison([{ name: "a", lines }]);
  for (const made of [text, page, compared]) {
    const wrong = /\bNaN\b|\bundefined\b|\bInfinity\b|\[object /.exec(made);
    demand(
      wrong === null,
      `"${wrong?.[0]}" in ${made.slice(Math.max(0, (wrong?.index ?? 0) - 40)).slice(0, 90)}`,
    );
  }
  demand(!(page + compared).includes("<script"), "a script of the log in a page");
  const copy = `${folder}/copy.jsonl`;
  await Deno.copyFile(`${folder}/${FILE}`, copy);
  await openLog(copy, { upTo: 2 });
}

/** Damages one line, as JSON. */
function mutateLine(bytes: Uint8Array, draw: Draw): Uint8Array {
  if (draw(5) === 0) return mutateBytes(bytes, draw);
  const rows = new TextDecoder().decode(bytes).trimEnd().split("\n"), at = draw(rows.length);
  return new TextEncoder().encode(rows.with(at, mutateJson(rows[at], draw)).join("\n") + "\n");
}

/** The format of logs. */
export const log: Format = {
  name: FILE,
  count: 160,
  file: FILE,
  make: ({ folder }) =>
    Deno.writeTextFile(`${folder}/${FILE}`, LINES.map((line) => JSON.stringify(line) + "\n").join("")),
  mutate: mutateLine,
  load,
};
