/**
 * The tables of a comparison: what came of each run, and which settings differ.
 *
 * @module
 */

import type { ComparedRun } from "./compared_run.ts";
import { strokeOf } from "./comparison_plots.ts";
import { bytesText } from "./cost_text.ts";
import { type Html, html, type Part } from "./html.ts";
import { duration } from "./live_summary.ts";
import { short, whole } from "./numbers.ts";

/** A column of the results. */
interface Column {
  readonly name: string;
  readonly value: (run: ComparedRun) => number | null;
  readonly text: (value: number) => string;
  /** Whether the least or the most is best; absent where neither is. */
  readonly best?: "least" | "most";
}

/** A short piece of the line of a run, as it is drawn. */
export function strokeMark(i: number): Html {
  const { stroke, dash = [] } = strokeOf(i), dashes = dash.join(" ");
  return html`
    <svg width="26" height="12" aria-hidden="true">
      <line x1="1" y1="6" x2="25" y2="6" stroke="${stroke}" stroke-width="3" stroke-dasharray="${dashes}" />
    </svg>
  `;
}

/** The line of a run, and its name. */
export function nameOf(run: ComparedRun, i: number): Html {
  return html`${strokeMark(i)} ${run.name}`;
}

/**
 * Shows what came of each run, the best of a column in bold.
 *
 * @param runs The runs
 * @returns A section
 */
export function resultTable(runs: readonly ComparedRun[]): Html {
  const columns = columnsOf(runs).filter(({ value }) => runs.some((run) => Number.isFinite(value(run))));
  const bests = columns.map((column) => bestOf(runs, column));
  const rows = runs.map((run, i) => {
    const { steps, planned, finished } = run.explanation;
    const state = finished ? "" : html`<small>under way, or interrupted</small>`;
    const cells = columns.map(({ value, text }, c) => {
      const seen = value(run);
      if (seen === null || !Number.isFinite(seen)) return html`<td>–</td>`;
      return seen === bests[c] ? html`<td><strong>${text(seen)}</strong></td>` : html`<td>${text(seen)}</td>`;
    });
    return html`<tr><th scope="row">${nameOf(run, i)}</th><td>${run.title}</td>
<td>${steps}${planned === null ? "" : ` of ${planned}`}${state}</td>${cells}</tr>`;
  });
  return html`
    <section>
      <h2>Results</h2>
      <div class="scroll" tabindex="0" role="group" aria-label="Results">
        <table class="named">
          <thead>
            <tr><th scope="col">Run</th><th scope="col">What</th><th scope="col">Steps</th>${columns.map((
              { name },
            ) => html`<th scope="col">${name}</th>`)}</tr>
          </thead>
          <tbody>${rows}</tbody>
        </table>
      </div>
      <p class="note">Bold: the best of a column. Times and paces are those of the machine that each run had.</p>
    </section>
  `;
}

function columnsOf(runs: readonly ComparedRun[]): Column[] {
  const digits = (value: number): string => short(value, 4),
    percent = (value: number) => `${short(100 * value)} %`;
  const judged = [...new Set(runs.flatMap(({ last }) => [...last.keys()]))];
  return [
    { name: "Loss in the end", value: ({ loss }) => loss.at(-1) ?? null, text: digits, best: "least" },
    ...judged.map((key): Column => ({
      name: key.replace(/^eval\//, ""),
      value: ({ last }) => last.get(key) ?? null,
      text: digits,
      ...directionOf(key),
    })),
    {
      name: "Time",
      value: (run) => run.axes.seconds?.at(-1) ?? null,
      text: (s) => duration(1000 * s),
    },
    { name: "ms a step", value: ({ stepMs }) => stepMs, text: short, best: "least" },
    { name: "Tokens", value: ({ axes }) => axes.tokens?.at(-1) ?? null, text: whole },
    { name: "Tokens a second", value: (run) => run.tokensPerSecond, text: whole, best: "most" },
    { name: "Device memory", value: ({ memoryBytes }) => memoryBytes, text: bytesText, best: "least" },
    { name: "Frozen", value: ({ explanation }) => explanation.share, text: percent },
    {
      name: "FLOPs of no freeze",
      value: ({ explanation }) => explanation.flopShare,
      text: percent,
      best: "least",
    },
  ];
}

/** Of what a metric is called follows which of its values is best. */
function directionOf(key: string): Pick<Column, "best"> {
  if (/loss|perplexity|error/i.test(key)) return { best: "least" };
  return /accuracy|f1|reward|score|match|margin|bleu|rouge/i.test(key) ? { best: "most" } : {};
}

/** The best value of a column, where runs differ in it. */
function bestOf(runs: readonly ComparedRun[], { value, best }: Column): number | null {
  const values = runs.flatMap((run) => value(run) ?? []).filter(Number.isFinite);
  if (best === undefined || values.length < 2 || new Set(values).size < 2) return null;
  return values.reduce((a, b) => best === "least" ? Math.min(a, b) : Math.max(a, b));
}

/**
 * Shows the settings in which runs differ, and in short those that are the same.
 *
 * @param runs The runs
 * @param options Settings that are left out
 * @returns A section
 */
export function settingsTable(
  runs: readonly ComparedRun[],
  { ignore }: { readonly ignore: readonly string[] },
): Part {
  const names = [...new Set(runs.flatMap(({ explanation }) => Object.keys(explanation.config)))]
    .filter((name) => !ignore.includes(name));
  const textOf = ({ explanation: { config } }: ComparedRun, name: string): string => {
    const value = Object.hasOwn(config, name) ? config[name] : undefined;
    if (value == null) return "–";
    return typeof value === "string" && value !== "" ? value : JSON.stringify(value);
  };
  const differ = names.filter((name) => new Set(runs.map((run) => textOf(run, name))).size > 1);
  const same = names.filter((name) => !differ.includes(name));
  const body = differ.map((name) =>
    html`<tr><th scope="row">${name}</th>${runs.map((run) => html`<td>${textOf(run, name)}</td>`)}</tr>`
  );
  const table = html`
    <div class="scroll" tabindex="0" role="group" aria-label="Settings that differ">
      <table class="settings">
        <thead>
          <tr><th scope="col">Setting</th>${runs.map((run, i) =>
            html`<th scope="col">${nameOf(run, i)}</th>`
          )}</tr>
        </thead>
        <tbody>${body}</tbody>
      </table>
    </div>
  `;
  const alike = Object.fromEntries(same.map((name) => [name, runs[0].explanation.config[name] ?? null]));
  return html`
    <section>
      <h2>Settings that differ</h2>
      ${differ.length > 0 ? table : html`<p class="note">None: the runs were started alike.</p>`}
      <details>
        <summary>${same.length} that are the same</summary>
        <pre>${JSON.stringify(alike, null, 2)}</pre>
      </details>
    </section>
  `;
}
