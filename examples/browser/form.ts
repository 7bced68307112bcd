/**
 * The form of a new run.
 *
 * @module
 */

import { counted } from "@firn/train/report";
import type { Ask, Given } from "./messages.ts";
import { byId, show } from "./page.ts";
import { DEFAULTS, type Settings } from "./settings.ts";

/** Files of a model folder: weights, tokenizers, settings, licences. All else stays where it is. */
const MODEL_FILES =
  /\.(json|safetensors|gguf|txt|model|jinja|md|tiktoken)$|^(LICEN[CS]E|NOTICE|USE_POLICY)$/i;

const NUMBERS = ["rank", "steps", "batch", "length", "tau", "alpha", "seed"] as const;

/** What the rest of the page does with the form. */
export interface Form {
  /** Whether a run may be begun. */
  enable(enabled: boolean): void;
}

/**
 * Fills the form, and hears it.
 *
 * @param onStart Is given what the form asks for
 * @returns The form
 */
export function bindForm(onStart: (message: Ask & { readonly kind: "start" }) => void): Form {
  const model = modelInput(), text = textInput();
  for (const key of NUMBERS) byId<HTMLInputElement>(key).valueAsNumber = DEFAULTS[key];
  byId<HTMLInputElement>("prompt").value = DEFAULTS.prompt;
  byId("form").addEventListener("submit", (event) => {
    event.preventDefault();
    const given = text.given(), files = model.given();
    if (given === null) return text.ask();
    if (files === null) return model.ask();
    const record = { model: files.name, own: files.own, text: given.name, settings: settingsOf() };
    onStart({ kind: "start", record, model: files.files, text: given.content });
  });
  return { enable: (enabled) => void (byId<HTMLButtonElement>("start").disabled = !enabled) };
}

function settingsOf(): Settings {
  const number = (id: string) => byId<HTMLInputElement>(id).valueAsNumber;
  const numbers = Object.fromEntries(NUMBERS.map((key) => [key, number(key)]));
  const rate = number("rate");
  return {
    ...DEFAULTS,
    ...numbers,
    rate: Number.isNaN(rate) ? null : rate,
    method: byId<HTMLSelectElement>("method").value as Settings["method"],
    freeze: byId<HTMLSelectElement>("freeze").value === "true",
    prompt: byId<HTMLInputElement>("prompt").value,
  };
}

/** A model, its files none where it is the page's own. */
interface GivenModel {
  readonly name: string;
  readonly own: boolean;
  readonly files: readonly Given[];
}

function modelInput(): { given(): GivenModel | null; ask(): void } {
  const input = byId<HTMLInputElement>("folder"), note = byId("folder-note");
  const own = () => document.querySelector<HTMLInputElement>('input[name="model"]:checked')!.value === "own";
  const chosen = (): File[] =>
    // Files of folders in the folder are no part of a model.
    [...input.files ?? []].filter(({ name, webkitRelativePath: path }) =>
      MODEL_FILES.test(name) && path.split("/").length === 2
    );
  const tell = () => {
    const files = chosen(), bytes = files.reduce((sum, { size }) => sum + size, 0);
    note.textContent = own() || input.files!.length === 0
      ? ""
      : `${counted(files.length, "file")}, ${megabytes(bytes)}`;
  };
  for (const radio of document.querySelectorAll('input[name="model"]')) {
    radio.addEventListener("change", () => {
      show("folder-label", !own());
      // Adam's moments of all of a large model rarely fit beside it.
      byId<HTMLSelectElement>("method").value = own() ? "model" : "adapter";
      tell();
    });
  }
  input.addEventListener("change", tell);
  return {
    given() {
      if (own()) return { name: "sotu", own: true, files: [] };
      const files = chosen();
      if (files.length === 0) return null;
      const [folder] = files[0].webkitRelativePath.split("/");
      return { name: folder, own: false, files: files.map((file) => ({ name: file.name, content: file })) };
    },
    ask() {
      note.textContent = "Choose the folder of a model first.";
      input.focus();
    },
  };
}

function textInput(): { given(): Given | null; ask(): void } {
  const input = byId<HTMLInputElement>("file"), area = byId<HTMLTextAreaElement>("text");
  const note = byId("text-note"), drop = byId("drop");
  let file: File | null = null;
  const take = (taken: File | null) => {
    file = taken;
    note.textContent = taken === null ? "" : `${taken.name}, ${megabytes(taken.size)}`;
    if (taken !== null) area.value = "";
  };
  input.addEventListener("change", () => take(input.files?.[0] ?? null));
  area.addEventListener("input", () => {
    input.value = "";
    take(null);
  });
  // A file that misses the place must not replace the page.
  for (const name of ["dragover", "drop"]) document.addEventListener(name, (event) => event.preventDefault());
  document.addEventListener("dragover", () => drop.classList.add("drop"));
  document.addEventListener("dragleave", () => drop.classList.remove("drop"));
  document.addEventListener("drop", ({ dataTransfer }) => {
    drop.classList.remove("drop");
    const [dropped] = dataTransfer?.files ?? [];
    if (dropped === undefined) return;
    input.value = "";
    take(dropped);
  });
  return {
    given() {
      if (file !== null) return { name: file.name, content: file };
      return area.value.trim() === "" ? null : { name: "pasted text", content: new Blob([area.value]) };
    },
    ask() {
      note.textContent = "Give a text first.";
      area.focus();
    },
  };
}

function megabytes(bytes: number): string {
  return bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}
