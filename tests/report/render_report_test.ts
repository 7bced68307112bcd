import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { type MetricRow, renderReport, type RunReport } from "@firn/train/report";
import { centredMeans, centredMedians, scaled, thin } from "../../core/report/numbers.ts";

const EVIL = `<script>alert("1")</script>&'`;

interface DemoOptions {
  readonly steps?: number;
  readonly layers?: number;
  /** The components freeze one after the other in the second half; with `thaw`, all of them at every other look. */
  readonly policy?: "none" | "freeze" | "thaw";
}

/** A made-up run whose readings fall through the threshold of 1. */
function demo({ steps = 60, layers = 2, policy = "freeze" }: DemoOptions = {}): RunReport {
  const components = Array.from(
    { length: layers },
    (_, layer) =>
      ["q_proj", "up_proj"].map((name) =>
        ({ path: `model.layers.${layer}.${name}`, layer, kind: "linear", size: 4096 }) as const
      ),
  ).flat();
  const paths = components.map(({ path }) => path);
  const cost = (frozen: number) => {
    const left = 1 - frozen / paths.length / 3;
    return {
      launches: 90 - frozen,
      flops: 1e12 * left,
      matmulFlops: 9e11 * left,
      bytes: 1e9 * left,
      memory: 1e8,
      constants: 0,
    };
  };
  const events: RunReport["events"][number][] = [];
  const frozenAt: Record<string, number> = {};
  const rows: MetricRow[] = [];
  const values: { path: string; step: number; value: number }[] = [];
  let frozen: readonly string[] = [];
  for (let step = 1; step <= steps; step++) {
    const stepMs = step === 1 ? 5000 : 100 - frozen.length;
    rows.push({
      step,
      loss: 4 / step,
      learningRate: 1e-3,
      tokensPerSecond: 1e3,
      stepMs,
      ...cost(frozen.length),
      frozen: frozen.length,
    });
    for (const path of paths) {
      if (!frozen.includes(path)) values.push({ path, step, value: 2 * (1 - step / steps) });
    }
    let next = frozen;
    if (policy === "thaw" && step % 2 === 0) next = frozen.length === 0 ? paths : [];
    if (policy === "freeze" && step > steps / 2) {
      next = paths.slice(0, Math.ceil((2 * step / steps - 1) * paths.length));
    }
    if (next.length === frozen.length) continue;
    const difference = (a: readonly string[], b: readonly string[]) => a.filter((path) => !b.includes(path));
    const [added, thawed] = [difference(next, frozen), difference(frozen, next)];
    const costs = { before: cost(frozen.length), after: cost(next.length) };
    events.push({ step, frozen: added, thawed, ...costs });
    for (const path of added) frozenAt[path] ??= step;
    frozen = next;
  }
  return {
    title: "A run",
    summary: [["Device", "lavapipe"]],
    config: { seed: 7 },
    rows,
    events,
    components,
    frozenAt,
    readings: policy === "none" ? undefined : { signal: "gradNorm", tau: 1, values },
    samples: { before: "abc", after: "to be" },
    perplexity: { before: 38.214, after: 5.0713 },
  };
}

/** Fails on a tag that is not closed in its place: the page is well-formed. */
function assertBalanced(page: string): void {
  const open: string[] = [];
  for (const [, close, name, rest] of page.matchAll(/<(\/?)([a-zA-Z][\w-]*)([^<>]*)>/g)) {
    if (["meta"].includes(name) || rest.endsWith("/")) continue;
    if (close === "") open.push(name);
    else assertEquals(open.pop(), name);
  }
  assertEquals(open, []);
}

function plotsOf(page: string): string[] {
  return page.match(/<svg role="img".*?<\/svg>/gs) ?? [];
}

Deno.test("renderReport draws loss, freezing and cost, with every component in its place", async () => {
  const page = await renderReport(demo());
  assertBalanced(page);
  const [loss, freezing, cost] = plotsOf(page);
  assertMatch(loss, /aria-label="Loss, step by step/);
  assertMatch(freezing, /aria-label="Freezing, step by step/);
  assertMatch(cost, /aria-label="Cost of a step, step by step/);
  const labels = [...freezing.matchAll(/>(\d\.\w+)<\/text>/g)].map(([, label]) => label);
  assertEquals(labels, ["0.q_proj", "0.up_proj", "1.q_proj", "1.up_proj"]);
  assertEquals(freezing.match(/url\(#frozen\)/g)?.length, 4);
  assertStringIncludes(page, `<pattern id="frozen"`);
  assert(["--heat0", "--heat9"].every((colour) => freezing.includes(`var(${colour})`)));
});

Deno.test("renderReport gives a sentence of its summary a row of its own, where no flag breaks", async () => {
  const said = "no policy yet. What one has to beat is a shorter run: --policy none --steps 5";
  const page = await renderReport({ ...demo(), summary: [["Frozen", "3 of 4"], ["Recommended", said]] });
  const [short, long] = [...page.matchAll(/<div([^>]*)>\s*<dt>/g)].map(([, attributes]) => attributes);
  assertEquals([short, long], [' class="figure"', ' class="sentence"']);
  assertStringIncludes(page, "dl .sentence { flex-basis: 100%; }");
});

Deno.test("renderReport says what each freeze saved and what all of them did", async () => {
  const page = await renderReport(demo());
  const table = page.slice(page.indexOf(`class="events"`));
  assertMatch(table, /froze model\.layers\.0\.q_proj/);
  assertMatch(table, />89 <small>−1\.1 %<\/small>/);
  assertMatch(table, />917 G <small>−8\.3 %<\/small>/);
  assertMatch(
    table.slice(table.indexOf("<tfoot>")),
    />86 <small>−4\.4 %<\/small>.*>667 G <small>−33\.3 %<\/small>/s,
  );
  assertMatch(page, /Not drawn: 1 of 60 steps that took over 3 times the median/);
  const { rows } = demo();
  const share = 100 * rows.reduce((sum, { flops }) => sum + flops, 0) / 60e12;
  assertStringIncludes(page, `The run took ${Number(share.toPrecision(3))} % of the FLOPs`);
});

Deno.test("renderReport escapes markup wherever a run has text", async () => {
  const run = demo();
  const rename = (path: string) => path.replace("layers.0", `layers.${EVIL}`);
  const renamed: RunReport = {
    ...run,
    title: EVIL,
    summary: [[EVIL, EVIL]],
    config: { [EVIL]: EVIL },
    samples: { before: EVIL, after: EVIL },
    components: run.components.map((component) => ({ ...component, path: rename(component.path) })),
    frozenAt: Object.fromEntries(Object.entries(run.frozenAt).map(([path, step]) => [rename(path), step])),
    events: run.events.map((event) => ({ ...event, frozen: event.frozen.map(rename) })),
    readings: {
      ...run.readings!,
      signal: EVIL,
      values: run.readings!.values.map((value) => ({ ...value, path: rename(value.path) })),
    },
  };
  const page = await renderReport(renamed);
  assertBalanced(page);
  assertEquals(page.match(/<script/i), null);
  assertStringIncludes(page, "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;&#39;</blockquote>");
  assertMatch(plotsOf(page)[1], />…[^<]*&lt;\/script&gt;&amp;'\.q_proj<\/text>/);
});

Deno.test("renderReport refers to nothing outside its page and runs nothing", async () => {
  const page = await renderReport(demo());
  const visible = page.replace(/ xmlns(:\w+)?="[^"]*"/g, "");
  assertEquals(visible.match(/https?:|src=|href=|@import|<script|<link|<iframe| on\w+=/gi), null);
  assertEquals(visible.match(/url\((?!#frozen\))/g), null);
  const policy = "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'";
  assertStringIncludes(page, `content="${policy}"`);
});

Deno.test("renderReport defines every colour that it uses, for light and for dark", async () => {
  const page = await renderReport(demo());
  const [, light, dark] = page.match(/:root \{([^}]*)\}[^}]*dark\) \{ :root \{([^}]*)\}/)!;
  for (const [, name] of page.matchAll(/var\((--[\w-]+)\)/g)) {
    assertStringIncludes(light, `${name}:`);
    assertStringIncludes(dark, `${name}:`);
  }
});

Deno.test("renderReport rules the steps at which the frozen set changed", async () => {
  const run = demo({ steps: 400 });
  const [path] = run.components.map((component) => component.path);
  const { before, after } = run.events[0];
  const events = [1, 200, 400].map((step) => ({
    step,
    frozen: [path],
    thawed: [],
    before,
    after,
  }));
  const [, , cost] = plotsOf(await renderReport({ ...run, events }));
  const [frame] = cost.match(/class="mark-rule role-mark.*?<\/g>/s)!;
  const across = [...frame.matchAll(/translate\(([\d.]+),/g)].map(([, x]) => Number(x));
  // The axis has 800 units from step 1 to the rule after step 400.
  assertEquals(across.map(Math.round), [0.5, 199.5, 399.5].map((x) => Math.round(800 * x / 399.5)));
});

Deno.test("renderReport says so when no policy was in force", async () => {
  const page = await renderReport(demo({ policy: "none" }));
  assertBalanced(page);
  assertStringIncludes(page, "No component was frozen or measured");
  assertEquals(plotsOf(page).length, 2);
  assertEquals(page.includes("What each freeze saved"), false);
});

Deno.test("renderReport shows readings of a policy that froze nothing", async () => {
  const page = await renderReport({ ...demo(), events: [], frozenAt: {} });
  const [, freezing] = plotsOf(page);
  assertMatch(freezing, /In 60 steps, 0 of 4 components froze/);
  assertEquals(freezing.includes("url(#frozen)"), false);
});

Deno.test("renderReport leaves out what was neither measured nor ever frozen, in plot and table", async () => {
  const run = demo(), [measured, thawed, frozen, untouched] = run.components.map(({ path }) => path);
  const { before, after } = run.events[0];
  const page = await renderReport({
    ...run,
    events: [
      { step: 20, frozen: [thawed, frozen], thawed: [], before, after },
      { step: 30, frozen: [], thawed: [thawed], before, after },
    ],
    frozenAt: { [frozen]: 20 },
    readings: { ...run.readings!, values: run.readings!.values.filter(({ path }) => path === measured) },
  });
  const [, freezing] = plotsOf(page);
  assertEquals([...freezing.matchAll(/>(\d\.\w+)<\/text>/g)].map(([, label]) => label), [
    "0.q_proj",
    "0.up_proj",
    "1.q_proj",
  ]);
  assertEquals(freezing.match(/url\(#frozen\)/g)?.length, 2);
  assertMatch(
    freezing,
    /In 60 steps, 1 of 4 components froze. Shown are the 3 that were measured or frozen/,
  );
  assertEquals(page.includes(untouched), false);
});

Deno.test("renderReport shows freezes of a policy that measured nothing", async () => {
  const page = await renderReport({ ...demo(), readings: undefined });
  assertEquals(plotsOf(page)[1].match(/fill="url\(#frozen\)"/g)?.length, 4);
  assertEquals(plotsOf(page)[1].match(/fill="var\(--heat5\)"/g)?.length, 4);
});

Deno.test("renderReport hatches what a resumed run had frozen before, and ends the hatching at a thaw", async () => {
  const run = demo({ policy: "none" });
  const [path] = run.components.map((component) => component.path);
  const { before, after } = demo().events[0];
  const rows = run.rows.slice(30);
  const whole = await renderReport({ ...run, rows, frozenAt: { [path]: 10 } });
  const thawed = { step: 45, frozen: [], thawed: [path], before, after };
  const half = await renderReport({ ...run, rows, frozenAt: { [path]: 10 }, events: [thawed] });
  const width = (page: string) =>
    Number(/M[^"h]*h([\d.]+)[^"]*"[^>]*fill="url\(#frozen\)"/.exec(plotsOf(page)[1])![1]);
  assertEquals(width(half), width(whole) / 2);
});

Deno.test("renderReport takes a run of one step, of none, and losses that are not finite", async () => {
  const one = await renderReport(demo({ steps: 1, policy: "none" }));
  assertBalanced(one);
  assertEquals(plotsOf(one).length, 2);
  assertEquals(/NaN|Infinity|undefined/.test(one), false);
  const none = await renderReport({ ...demo(), rows: [], events: [] });
  assertBalanced(none);
  assertStringIncludes(none, "No step was taken");
  const run = demo();
  const rows = run.rows.map((row) => row.step % 7 === 0 ? { ...row, loss: NaN, learningRate: NaN } : row);
  assertEquals(
    /NaN|Infinity|undefined/.test((await renderReport({ ...run, rows })).replace(/<pre>.*/s, "")),
    false,
  );
});

Deno.test("renderReport keeps long runs, large models and restless policies below 2 MB", async () => {
  for (
    const options of [
      { steps: 50_000, layers: 1, policy: "none" },
      { steps: 4000, layers: 50, policy: "freeze" },
      { steps: 4000, layers: 50, policy: "thaw" },
    ] as const
  ) {
    const page = await renderReport(demo(options));
    assert(page.length < 2e6, `${JSON.stringify(options)}: ${page.length}`);
  }
});

Deno.test("thin keeps a short line, and the extremes of a long one", () => {
  const line = (length: number) =>
    Array.from({ length }, (_, x) => ({ x, y: x === 777 ? 99 : x === 5 ? NaN : x % 3 }));
  assertEquals(thin(line(10), 10), line(10));
  const thinned = thin(line(1000), 100);
  assert(thinned.length <= 100);
  assert(thinned.some(({ x, y }) => x === 777 && y === 99));
  assertEquals(thinned.map(({ x }) => x), thinned.map(({ x }) => x).sort((a, b) => a - b));
});

Deno.test("centredMeans follows a straight line, skips absent values and shrinks at the ends", () => {
  assertEquals(centredMeans([1, 2, 3, NaN, 5], 1), [1.5, 2, 2.5, 4, 5]);
  assertEquals(centredMeans([1, NaN, 3], 0), [1, NaN, 3]);
});

Deno.test("centredMedians keeps an edge and drops a spike", () => {
  assertEquals(centredMedians([1, 1, 9, 1, 5, 5, 5], 1), [1, 1, 1, 5, 5, 5, 5]);
});

Deno.test("scaled prints three digits and a prefix", () => {
  assertEquals([0, 7, 999, 1234, 5.678e12, 1e17].map(scaled), [
    "0 ",
    "7 ",
    "999 ",
    "1.23 k",
    "5.68 T",
    "100 P",
  ]);
});

Deno.test("a run of several ranks shows the bytes that each gave, beside the FLOPs, and what of the exchange was hidden", async () => {
  const { rows, events, ...run } = demo();
  const sent = (flops: number): number => Math.round(flops / 1e4);
  const withSent = <C extends { readonly flops: number }>(cost: C) => ({
    ...cost,
    exchanged: sent(cost.flops),
  });
  const page = (more: Partial<MetricRow>) =>
    renderReport({
      ...run,
      rows: rows.map((row) => ({ ...withSent(row), ...more })),
      events: events.map(({ before, after, ...event }) => ({
        ...event,
        before: withSent(before),
        after: withSent(after),
      })),
    });
  const text = await page({ exchangeMs: 8, exchangeWaitedMs: 2 });
  assertStringIncludes(text, "MiB sent");
  assertStringIncludes(text, '<th scope="col">Given to other ranks</th>');
  assertStringIncludes(
    text,
    "Sums were on their way between ranks for 8 ms a step, 75 % of it while the backward pass went on.",
  );
  const untimed = await page({});
  assert(!untimed.includes("Sums were on their way"));
  const alone = await renderReport(demo());
  assert(!alone.includes("MiB sent") && !alone.includes("Given to other ranks"));
});
