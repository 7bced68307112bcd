/**
 * The page that compares runs.
 *
 * @module
 */

import { assertEquals, assertMatch, assertRejects, assertStringIncludes } from "@std/assert";
import { InputError } from "@firn/train";
import { isComparison, type Line, renderComparison, renderReport, reportOf } from "@firn/train/report";
import { comparedRun } from "../../core/report/compared_run.ts";
import { freezeLine, PARTS, startLine, stepLine, stepLines } from "./run_lines.ts";

const EVIL = `</td><script>alert(1)</script>"'`;

/** A run whose loss is `scale` times that of another. */
function run(
  scale: number,
  more: readonly Line[] = [],
  pace: { readonly tokensPerSecond?: number } = {},
): Line[] {
  const start = startLine({
    config: { model: "llama", lr: scale, seed: 3, out: `out/${scale}` },
    perplexity: 99,
  });
  const steps = stepLines(1, 10, { stepMs: 20 * scale, ...pace }).map((line) => ({
    ...line,
    loss: scale * line.loss!,
  }));
  return [start, PARTS, ...steps, ...more];
}

/** A table of a page as text: its rows, each with its cells. */
function rowsOf(page: string, heading: string): string[][] {
  const table = page.slice(page.indexOf(`<h2>${heading}</h2>`)).match(/<table[\s\S]*?<\/table>/)![0];
  return [...table.matchAll(/<tr>([\s\S]*?)<\/tr>/g)].map(([, row]) =>
    [...row.matchAll(/<t[hd][^>]*>([\s\S]*?)<\/t[hd]>/g)].map(([, cell]) =>
      cell.replace(/<strong>(.*?)<\/strong>/g, "*$1").replace(/<[^>]*>/g, "").trim()
    )
  );
}

Deno.test("renderComparison draws loss by step, time and tokens, and freezing, a line of its own for each run", async () => {
  const pace = { tokensPerSecond: 1000 };
  const page = await renderComparison([
    { name: "one", lines: run(1, [freezeLine(10)], pace) },
    { name: "two", lines: run(2, [], pace) },
  ]);
  const headings = [...page.matchAll(/<h2>(.*?)<\/h2>/g)].map(([, heading]) => heading);
  const plots = ["Loss by step", "Loss by time", "Loss by tokens", "Freezing"];
  assertEquals(headings, [...plots, "Results", "Settings that differ", "What froze"]);
  for (const plot of page.match(/<svg role="img".*?<\/svg>/gs)!) {
    assertMatch(plot, /var\(--run0\)[\s\S]*var\(--run1\)/);
  }
  assertEquals(/<script|https?:\/\/(?!www\.w3\.org)/.test(page), false);
  assertEquals(isComparison(page), true);
});

Deno.test("renderComparison writes ten seconds, minutes and hours as 10, not as a power", async () => {
  for (const stepMs of [1030, 61_800, 3_708_000]) {
    const lines = [startLine(), PARTS, ...stepLines(1, 10, { stepMs })];
    const page = await renderComparison([{ name: "one", lines }]);
    const plot = page.slice(page.indexOf("<h2>Loss by time</h2>"));
    assertMatch(plot.slice(0, plot.indexOf("</svg>")), />10<\/text>/);
    assertEquals(/>\d+e\+\d/.test(page), false);
  }
});

Deno.test("renderComparison has the results of each run, the best in bold, and says what is under way", async () => {
  const end: Line = { kind: "end", perplexity: 5 };
  const page = await renderComparison([
    { name: "one", lines: run(1, [freezeLine(10), end]) },
    {
      name: "two",
      lines: run(2, [{ kind: "evaluation", step: 10, set: "easy", metrics: { accuracy: 0.5 } }]),
    },
  ]);
  const [head, one, two] = rowsOf(page, "Results");
  const columns = [
    "Run",
    "What",
    "Steps",
    "Loss in the end",
    "perplexity",
    "easy/accuracy",
    "Time",
    "ms a step",
  ];
  assertEquals(head, [...columns, "Frozen", "FLOPs of no freeze"]);
  assertEquals(one, ["one", "llama", "10", "*0.1", "5", "–", "0:00", "*20", "75 %", "100 %"]);
  assertEquals(two, [
    "two",
    "llama",
    "10under way, or interrupted",
    "0.2",
    "–",
    "0.5",
    "0:00",
    "40",
    "0 %",
    "100 %",
  ]);
  assertEquals(rowsOf(page, "What froze").slice(1), [
    ["one", "below(gradNorm, 1)", "after step 10", "1 of 2"],
    ["two", "–", "–", "0 of 2"],
  ]);
});

Deno.test("renderComparison and the report draw what was evaluated while it trained, a line for each set", async () => {
  const evaluate = (step: number, set: string): Line =>
    ({
      kind: "evaluation",
      step,
      set,
      metrics: { loss: 1 / step, accuracy: step === 4 ? null : 0.5 },
    }) as const;
  const lines = run(1, [2, 4, 6].flatMap((step) => [evaluate(step, "easy"), evaluate(step, "hard")]));
  const page = await renderReport(reportOf(lines)), section = page.slice(page.indexOf("<h2>Evaluation</h2>"));
  const [plot] = section.match(/<svg role="img".*?<\/svg>/s)!;
  assertMatch(plot, /var\(--run0\)[\s\S]*var\(--run1\)/);
  assertMatch(section, /From the top: loss, accuracy\./);
  assertEquals(rowsOf(page, "Evaluation").slice(0, 3), [
    ["After step", "Set", "loss", "accuracy"],
    ["6", "hard", "0.1667", "0.5"],
    ["6", "easy", "0.1667", "0.5"],
  ]);
  const compared = await renderComparison([{ name: "one", lines }, { name: "two", lines: run(2) }]);
  const held = compared.slice(
    compared.indexOf("<h2>Held-out loss</h2>"),
    compared.indexOf("<h2>Results</h2>"),
  );
  assertEquals([held.includes('stroke="var(--run0)"'), held.includes('stroke="var(--run1)"')], [true, false]);
});

Deno.test("renderComparison shows the settings that differ, and leaves out those that are not compared", async () => {
  const other = startLine({ config: { model: "llama", lr: 2, seed: 3, out: "out/2", data: null, name: "" } });
  const runs = [{ name: "1", lines: run(1) }, { name: "2", lines: [other, ...run(2).slice(1)] }];
  const page = await renderComparison(runs, { ignore: ["out"] });
  assertEquals(rowsOf(page, "Settings that differ"), [["Setting", "1", "2"], ["lr", "1", "2"], [
    "name",
    "–",
    "&quot;&quot;",
  ]]);
  assertMatch(page, /3 that are the same[\s\S]*&quot;seed&quot;: 3/);
  const alone = await renderComparison([runs[0]]);
  assertStringIncludes(alone, "None: the runs were started alike.");
  await assertRejects(() => renderComparison([]), InputError, "there is none");
});

Deno.test("renderComparison takes runs without steps and of any number, and no markup of a log", async () => {
  const evil: Line[] = [
    startLine({ config: { model: EVIL, [EVIL]: EVIL } }),
    { kind: "evaluation", step: 1, set: EVIL, metrics: { [EVIL]: 1 } },
  ];
  const many = Array.from({ length: 40 }, (_, i) => ({ name: `run ${i} ${EVIL}`, lines: run(i + 1) }));
  const page = await renderComparison([{ name: EVIL, lines: evil }, ...many], { title: EVIL });
  assertEquals(/<script/i.test(page), false);
  assertStringIncludes(page, "&lt;script&gt;");
  assertEquals(isComparison(await renderReport(reportOf(many[0].lines))), false);
});

Deno.test("renderComparison shows a note, and ends a curve where losses are no longer known", async () => {
  const lines = (until: number): Line[] => [
    startLine(),
    ...Array.from({ length: 120 }, (_, i) => stepLine(i + 1, { loss: i < until ? 9 - i / 20 : null })),
  ];
  const page = await renderComparison([{ name: "a", lines: lines(60) }], { note: "as <known>" });
  assertStringIncludes(page, '<p class="note">as &lt;known&gt;</p>');
  const { loss } = comparedRun({ name: "a", lines: lines(60) });
  // A mean goes over two steps on each side.
  assertEquals(loss.findIndex(Number.isNaN), 58);
  assertEquals(comparedRun({ name: "a", lines: lines(120) }).loss.some(Number.isNaN), false);
});
