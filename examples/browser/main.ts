/**
 * The page: asks the worker, and shows what it tells.
 *
 * @module
 */

import { bindForm } from "./form.ts";
import { adviceOn } from "./lack.ts";
import type { Ask, Phase, Tell } from "./messages.ts";
import { byId, offer, show } from "./page.ts";
import { runView } from "./run_view.ts";

const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
const ask = (message: Ask): void => worker.postMessage(message);

const view = runView();
const form = bindForm((message) => {
  view.clear();
  ask(message);
});

/** What a run that is under way takes: buttons that would do nothing are off. */
function enter(phase: Phase): void {
  const live = phase === "running" || phase === "paused", pause = byId("pause");
  show("run", phase !== "idle");
  show("kept", false);
  form.enable(phase === "idle");
  show("form", phase === "idle");
  pause.textContent = phase === "paused" ? "Resume" : "Pause";
  byId<HTMLButtonElement>("pause").disabled = !live;
  for (const id of ["sample", "download", "log"]) {
    byId<HTMLButtonElement>(id).disabled = !live && phase !== "done";
  }
  byId<HTMLButtonElement>("forget").disabled = phase !== "paused" && phase !== "done" && phase !== "failed";
  // What had the focus may be gone.
  if (phase === "preparing") byId("run-title").focus();
  view.enter(phase);
}

function hear(message: Tell): void {
  switch (message.kind) {
    case "ready": {
      const slow = message.software ? ", a software adapter: right, but slow" : "";
      const ends = message.lasting ? "" : ". This window keeps no files: a run ends with the page";
      byId("adapter").textContent = `GPU: ${message.adapter}${slow}${ends}`;
      return enter("idle");
    }
    case "kept": {
      const { run } = message;
      show("kept", run !== null);
      // One run is kept: another begins where it is forgotten.
      show("form", run === null);
      if (run === null) return;
      const { model, text, settings } = run.record;
      byId("kept-text").textContent = `${model} on ${text}: step ${run.step} of ${settings.steps}.`;
      return byId("continue").focus();
    }
    case "missing": {
      const { title, steps } = adviceOn(message.lack, navigator.userAgent, message.detail);
      byId("adapter").textContent = "";
      return tellProblem("missing", title, steps);
    }
    case "error":
      return tellProblem(
        "error",
        message.expected ? message.message : `The page failed: ${message.message}`,
        [],
      );
    case "phase":
      return enter(message.phase);
    case "file":
      return offer(message.name, message.content);
    default:
      return view.hear(message);
  }
}

function tellProblem(id: "missing" | "error", title: string, steps: readonly string[]): void {
  const heading = document.createElement("p"), list = document.createElement("ul");
  heading.textContent = title;
  list.append(
    ...steps.filter((step) => step !== "").map((step) => {
      const item = document.createElement("li");
      item.textContent = step;
      return item;
    }),
  );
  byId(id).replaceChildren(heading, ...steps.length > 0 ? [list] : []);
  show(id, true);
}

function press(id: string, action: () => void): void {
  byId(id).addEventListener("click", () => {
    show("error", false);
    action();
  });
}

worker.addEventListener("message", ({ data }: MessageEvent<Tell>) => hear(data));
worker.addEventListener("error", ({ message }) => tellProblem("error", `The page failed: ${message}`, []));
press("continue", () => {
  view.clear();
  ask({ kind: "continue" });
});
press("forget-kept", () => ask({ kind: "forget" }));
press("forget", () => ask({ kind: "forget" }));
press("pause", () => ask({ kind: byId("pause").textContent === "Resume" ? "resume" : "pause" }));
press("sample", () => ask({ kind: "sample" }));
press("download", () => ask({ kind: "download" }));
press("log", () => offer("metrics.jsonl", view.log()));
