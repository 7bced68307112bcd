/**
 * A self-contained page that compares runs.
 *
 * @module
 */

import { counted } from "../counted.ts";
import { InputError } from "../errors.ts";
import { type ComparedRun, comparedRun, type NamedRun } from "./compared_run.ts";
import { frozenPlot, heldOutPlot, lossesPlot } from "./comparison_plots.ts";
import { nameOf, resultTable, settingsTable } from "./comparison_tables.ts";
import { html, type Part, raw } from "./html.ts";
import { pageOf } from "./page.ts";
import { drawn } from "./sections.ts";

/** What a page of a comparison says that made it. */
const GENERATOR = "firn compare";

/** Options of {@link renderComparison}. */
export interface ComparisonOptions {
  /** Heading of the page; how many runs there are when absent. */
  readonly title?: string;
  /** Settings that are not compared, such as the output folder; none when absent. */
  readonly ignore?: readonly string[];
  /** What a reader must know of the runs, below the heading; nothing when absent. */
  readonly note?: string;
}

/**
 * Renders a page that compares runs: loss by step, time and tokens, freezing, results, and the settings that differ.
 *
 * Plots are SVG. The page needs no network and no script; all that comes from logs is escaped.
 *
 * @param runs The runs and their logs, at least one; a run may be under way
 * @param options Title, note, and settings that are left out
 * @returns The page, HTML
 * @throws {InputError} When there is no run
 * @throws {DataError} When a log has no start
 *
 * @example
 * ```ts
 * import { assertStringIncludes } from "@std/assert";
 * import { type Line, renderComparison } from "@firn/train/report";
 *
 * const log = (rate: number): Line[] => [
 *   { kind: "start", config: { model: "llama", lr: rate }, adapter: "a GPU" },
 *   ...[1, 2, 3].map((step): Line => ({
 *     kind: "step",
 *     step,
 *     loss: rate / step,
 *     learningRate: rate,
 *     stepMs: 20,
 *     launches: 5,
 *     flops: 1e6,
 *     frozen: 0,
 *     readings: {},
 *   })),
 * ];
 * const page = await renderComparison([{ name: "slow", lines: log(0.1) }, { name: "fast", lines: log(0.2) }]);
 * assertStringIncludes(page, "Settings that differ");
 * ```
 */
export async function renderComparison(
  runs: readonly NamedRun[],
  { title = counted(runs.length, "run"), ignore = [], note }: ComparisonOptions = {},
): Promise<string> {
  if (runs.length === 0) {
    throw new InputError("Cannot compare runs as there must be one at least: there is none");
  }
  const all = runs.map(comparedRun);
  const names = html`<p class="legend">${all.map((run, i) => html`<span>${nameOf(run, i)}</span>`)}</p>`;
  const body = html`
    <main>
      <header><h1>${title}</h1>${note === undefined ? "" : html`<p class="note">${note}</p>`}${names}</header>
      ${drawn("Loss by step", await lossesPlot(all, "step"))}
      ${drawn("Loss by time", await lossesPlot(all, "seconds"))}
      ${drawn("Loss by tokens", await lossesPlot(all, "tokens"))}
      ${drawn("Held-out loss", await heldOutPlot(all))}
      ${drawn("Freezing", await frozenPlot(all))}
      ${resultTable(all)}
      ${settingsTable(all, { ignore })}
      ${reasons(all)}
    </main>
  `;
  return pageOf({ title, body, head: raw(`<meta name="generator" content="${GENERATOR}">`) });
}

/**
 * Whether a page is one that {@link renderComparison} made.
 *
 * @param page HTML
 * @returns Whether it says so
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { isComparison, renderComparison } from "@firn/train/report";
 *
 * const page = await renderComparison([
 *   { name: "a", lines: [{ kind: "start", config: {}, adapter: "a GPU" }] },
 * ]);
 * assertEquals([isComparison(page), isComparison("<p>notes</p>")], [true, false]);
 * ```
 */
export function isComparison(page: string): boolean {
  return page.includes(`<meta name="generator" content="${GENERATOR}">`);
}

/** What each run froze when, in short. */
function reasons(runs: readonly ComparedRun[]): Part {
  if (runs.every(({ explanation }) => explanation.changes.length === 0)) return "";
  const rows = runs.flatMap((run, i) => {
    const { changes, frozen, active } = run.explanation, moved = changes.flatMap((change) => change.frozen);
    const rules = [...new Set(moved.flatMap(({ reason }) => reason?.rule ?? []))].slice(0, 4).join("; ");
    const first = changes.find((change) => change.frozen.length > 0);
    return html`
      <tr>
        <th scope="row">${nameOf(run, i)}</th>
        <td>${rules === "" ? "–" : rules}</td>
        <td>${first === undefined ? "–" : `after step ${first.step}`}</td>
        <td>${frozen.length} of ${frozen.length + active.length}</td>
      </tr>
    `;
  });
  return html`
    <section>
      <h2>What froze</h2>
      <div class="scroll" tabindex="0" role="group" aria-label="What froze">
        <table class="named">
          <thead>
            <tr>
              <th scope="col">Run</th>
              <th scope="col">Rules</th>
              <th scope="col">First freeze</th>
              <th scope="col">Components in the end</th>
            </tr>
          </thead>
          <tbody>${rows}</tbody>
        </table>
      </div>
    </section>
  `;
}
