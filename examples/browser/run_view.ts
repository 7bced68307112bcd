/**
 * The part of the page that shows a run.
 *
 * @module
 */

import { costText, counted, endingText, explain, type Line, reportOf } from "@firn/train/report";
import { heatMap } from "./heat_map.ts";
import { lossPlot } from "./loss_plot.ts";
import type { Phase, Tell } from "./messages.ts";
import { byId, show } from "./page.ts";
import type { RunRecord } from "./settings.ts";

/** What is shown of a run. */
export interface RunView {
  /** Takes away what is shown of another run. */
  clear(): void;
  /** Shows what the worker tells. */
  hear(message: Tell): void;
  /** Shows what the worker does. */
  enter(phase: Phase): void;
  /** The log of the run, `metrics.jsonl`. */
  log(): Blob;
}

/** Figures in the order in which they are shown. */
const FIGURES = [
  "Steps",
  "Loss",
  "Tokens a second",
  "Frozen",
  "Cost of a step",
  "Model",
  "Text",
  "Learning rate",
] as const;

/** What each shows, as far as it is known. */
type Figures = Map<typeof FIGURES[number], string>;

const STATUS: { readonly [phase in Phase]: string } = {
  idle: "",
  preparing: "Preparing",
  running: "Training",
  paused: "Paused: the run is saved",
  done: "Done: the model can be downloaded",
  failed: "The run failed",
};

/** Opens the view. */
export function runView(): RunView {
  let lines: Line[] = [];
  const figures: Figures = new Map(), samples = new Map<string, string>();
  const draw = seldom(() => {
    drawFigures(figures);
    drawPlots(lines);
    drawSamples(samples);
  });
  return {
    clear() {
      lines = [];
      byId<HTMLProgressElement>("progress").value = 0;
      figures.clear();
      samples.clear();
      draw();
    },
    log: () => new Blob([lines.map((line) => `${JSON.stringify(line)}\n`).join("")]),
    enter(phase) {
      byId("status").textContent = STATUS[phase];
    },
    hear(message) {
      switch (message.kind) {
        case "status":
          byId("status").textContent = message.text;
          return;
        case "facts":
          for (const [label, text] of message.facts) figures.set(label, text);
          return draw();
        case "step": {
          const bar = byId<HTMLProgressElement>("progress");
          [bar.max, bar.value] = [message.steps, message.step];
          figures.set("Steps", `${message.step} of ${message.steps}`);
          return draw();
        }
        case "lines":
          lines = message.all ? [...message.lines] : [...lines, ...message.lines];
          for (const line of message.lines) note(line, { figures, samples });
          noteFrozen(lines, figures);
          return draw();
        case "sample":
          samples.set(message.when, message.text);
          return draw();
      }
    },
  };
}

/** Draws at most twice a second, and after the last call. */
function seldom(draw: () => void): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined, last = -Infinity;
  return () => {
    timer ??= setTimeout(() => {
      [timer, last] = [undefined, performance.now()];
      draw();
    }, Math.max(0, last + 500 - performance.now()));
  };
}

function note(
  line: Line,
  { figures, samples }: { readonly figures: Figures; readonly samples: Map<string, string> },
): void {
  if (line.kind === "start" && line.sample !== undefined) samples.set("before", line.sample);
  if (line.kind === "end") {
    if (line.sample !== undefined) samples.set("after", line.sample);
    const why = endingText(line.ending ?? null);
    if (why !== "") figures.set("Steps", `${line.ending!.step}${why}`);
  }
  if (line.kind === "freeze") {
    figures.set("Cost of a step", costText(line.after.launches === 0 ? line.before : line.after));
  }
  if (line.kind !== "step") return;
  figures.set("Loss", line.loss?.toFixed(3) ?? "–");
  figures.set("Tokens a second", line.tokensPerSecond?.toLocaleString("en") ?? "–");
}

function noteFrozen(lines: readonly Line[], figures: Figures): void {
  const { frozen, active } = explain(lines);
  if (frozen.length + active.length > 0) {
    figures.set("Frozen", `${frozen.length} of ${counted(frozen.length + active.length, "component")}`);
  }
}

function drawFigures(figures: Figures): void {
  byId("figures").replaceChildren(
    ...FIGURES.filter((label) => figures.has(label)).map((label) => {
      const pair = document.createElement("div"), name = document.createElement("dt");
      const value = document.createElement("dd");
      [name.textContent, value.textContent] = [label, figures.get(label)!];
      pair.append(name, value);
      return pair;
    }),
  );
}

function drawPlots(lines: readonly Line[]): void {
  const plots = byId("plots"), open = [...plots.querySelectorAll("details")].map((details) => details.open);
  const [start] = lines, components = lines.find((line) => line.kind === "components")?.components ?? [];
  if (start?.kind !== "start" || !lines.some(({ kind }) => kind === "step")) return plots.replaceChildren();
  const { settings: { freeze, tau } } = start.config as RunRecord;
  const threshold = freeze ? { signal: "gradNorm", tau } : undefined;
  const report = reportOf(lines, { title: "", summary: [], components, threshold });
  plots.replaceChildren(lossPlot(report.rows), ...heatMap(report));
  // What was unfolded stays so.
  plots.querySelectorAll("details").forEach((details, i) => details.open = open[i] ?? false);
}

function drawSamples(samples: ReadonlyMap<string, string>): void {
  show("samples", samples.size > 0);
  byId("sample-list").replaceChildren(...[...samples].map(([when, text]) => {
    const part = document.createElement("div"), heading = document.createElement("h3");
    const quote = document.createElement("blockquote");
    heading.textContent = /^step/.test(when)
      ? `After ${when}`
      : `${when[0].toUpperCase()}${when.slice(1)} training`;
    quote.textContent = text;
    part.append(heading, quote);
    return part;
  }));
}
