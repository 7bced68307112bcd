/**
 * The card of a model, the `README.md` that a hub shows: what it was made of, how, and what came out.
 *
 * @module
 */

import { counted } from "../counted.ts";
import { isRecord } from "../json_rules.ts";
import { flopText, percent } from "./cost_text.ts";
import { short } from "./numbers.ts";
import { printable } from "./printable.ts";
import type { Change, Explanation, Moved } from "./types.ts";

/** What a card is made of. */
export interface CardFacts {
  /** `owner/name` on the hub. */
  readonly name: string;
  /** `config.json` of a model, or `adapter_config.json` of an adapter. */
  readonly config: Readonly<Record<string, unknown>>;
  /** What the run did; null when its log is not at hand. */
  readonly run: Explanation | null;
}

/** The line by which a card is known that was made by {@link modelCard}. */
const MARK =
  "<!-- Made by Firn from the log of the run. Take this line out when you change the card: then it stays. -->";

/** Settings of a run that say where things lay or what was printed, not how it was trained. */
const LEFT_OUT: readonly string[] = [
  "model",
  "data",
  "validation",
  "out",
  "resume",
  "checkpoint",
  "prompt",
  "no-sample",
  "no-tune",
  "license",
];

/** A hub's name, with the commit or without. */
const NAME = /^([\w.-]+\/[\w.-]+?)(?:@([\w./-]+))?$/;

/** A folder of the cache of Hugging Face. */
const CACHED = /[\\/]models--([\w.-]+?)--([\w.-]+)[\\/]snapshots[\\/]([0-9a-f]{40})/;

/** Components that are named in a row. */
const MOST_NAMES = 6;

/**
 * Writes the card of a model that was trained: front matter in YAML as the hub reads it, then what it was made of, the
 * settings, what froze when and why, and the results.
 *
 * @param facts Name, configuration, and what the run did
 * @returns Markdown, which `pushFolder` takes as `card`
 *
 * @example
 * ```ts
 * import { assertStringIncludes } from "@std/assert";
 * import { modelCard } from "@firn/train/report";
 *
 * const config = { architectures: ["LlamaForCausalLM"], _name_or_path: "org/base" };
 * const card = modelCard({ name: "me/mine", config, run: null });
 * assertStringIncludes(card, "base_model: org/base");
 * assertStringIncludes(card, 'from_pretrained("me/mine")');
 * ```
 */
export function modelCard({ name, config, run }: CardFacts): string {
  const base = baseOf(config, run), isAdapter = "peft_type" in config;
  const sections = [
    `---\n${frontMatter({ config, run, base, isAdapter })}\n---`,
    MARK,
    `# ${plain(name.replace(/^.*\//, ""))}`,
    introduction({ base, isAdapter, run }),
    ...run === null ? [] : [settings(run), freezing(run), results(run)],
    usage({ name, config, base, isAdapter }),
  ];
  return sections.filter((section) => section !== "").join("\n\n") + "\n";
}

/** What a model was made from. */
interface Base {
  /** Its name on a hub; null for a folder. */
  readonly name: string | null;
  readonly revision: string | null;
  /** For people. */
  readonly shown: string;
}

function baseOf(config: CardFacts["config"], run: Explanation | null): Base | null {
  const found = run?.config.model ?? config.base_model_name_or_path ?? config._name_or_path;
  if (typeof found !== "string" || found === "") return null;
  const cached = CACHED.exec(found);
  if (cached !== null) {
    const name = `${cached[1]}/${cached[2]}`;
    return { name, revision: cached[3], shown: name };
  }
  // A path with two parts looks like a name; those of this project are folders.
  const named = /^(examples|out|\.[^/]*)\//.test(found) ? null : NAME.exec(found);
  if (named !== null) return { name: named[1], revision: named[2] ?? revisionIn(config), shown: named[1] };
  // No path of this machine goes out.
  return { name: null, revision: null, shown: found.replace(/[\\/]+$/, "").replace(/^.*[\\/]/, "") };
}

/** The revision that an adapter was made for. */
const revisionIn = ({ revision }: CardFacts["config"]): string | null =>
  typeof revision === "string" ? revision : null;

function frontMatter(
  { config, run, base, isAdapter }: {
    readonly config: CardFacts["config"];
    readonly run: Explanation | null;
    readonly base: Base | null;
    readonly isAdapter: boolean;
  },
): string {
  const license = run?.config.license, lists: (readonly [string, readonly string[]])[] = [];
  const rows: (readonly [string, unknown])[] = [
    ["base_model", base?.name],
    ["base_model_relation", base?.name == null ? null : isAdapter ? "adapter" : "finetune"],
    ["library_name", isAdapter ? "peft" : "transformers"],
    ["license", typeof license === "string" ? license : null],
    ["pipeline_tag", autoOf(config).pipeline],
  ];
  const datasets = datasetsOf(run);
  if (datasets.length > 0) lists.push(["datasets", datasets]);
  const policy = /gradNorm|gradDelta|weightDelta/.test(String(run?.config.policy)) ? ["grades"] : [];
  lists.push(["tags", ["firn", ...isAdapter ? ["lora"] : [], ...policy]]);
  return [
    ...rows.flatMap(([key, value]) => typeof value === "string" ? [`${key}: ${yaml(value)}`] : []),
    ...lists.map(([key, values]) => `${key}:\n${values.map((value) => `- ${yaml(value)}`).join("\n")}`),
  ].join("\n");
}

/** Text in YAML, which is that of JSON where a word alone could be something else. */
function yaml(text: string): string {
  const isWord = /^[A-Za-z][\w./-]*$/.test(text) && !/^(true|false|yes|no|on|off|null|y|n)$/i.test(text);
  return isWord ? text : JSON.stringify(printable(text));
}

/** Datasets of a hub that a run read. */
function datasetsOf(run: Explanation | null): readonly string[] {
  const found = JSON.stringify([run?.config.data, run?.config.validation]).matchAll(
    /hub:([\w.-]+\/[\w.-]+)/g,
  );
  return [...new Set([...found].map(([, name]) => name))];
}

/** The class of transformers that loads a model, and the task by which the hub lists it. */
function autoOf(config: CardFacts["config"]): { readonly auto: string; readonly pipeline: string | null } {
  const { architectures, task_type: task } = config;
  const name = Array.isArray(architectures) ? String(architectures[0]) : String(task);
  const kinds: readonly (readonly [RegExp, string, string])[] = [
    [/ForCausalLM$|LMHeadModel$|^CAUSAL_LM$/, "AutoModelForCausalLM", "text-generation"],
    [/ForSequenceClassification$|^SEQ_CLS$/, "AutoModelForSequenceClassification", "text-classification"],
    [/ForTokenClassification$|^TOKEN_CLS$/, "AutoModelForTokenClassification", "token-classification"],
    [/ForImageClassification$/, "AutoModelForImageClassification", "image-classification"],
    [/ForConditionalGeneration$|ForVision2Seq$/, "AutoModelForImageTextToText", "image-text-to-text"],
  ];
  const [, auto = "AutoModel", pipeline = null] = kinds.find(([pattern]) => pattern.test(name)) ?? [];
  return { auto, pipeline };
}

function introduction(
  { base, isAdapter, run }: {
    readonly base: Base | null;
    readonly isAdapter: boolean;
    readonly run: Explanation | null;
  },
): string {
  const what = isAdapter ? "A LoRA adapter" : "A model";
  const from = base === null
    ? ""
    : base.name === null
    ? `, from \`${code(base.shown)}\``
    : `, from [${plain(base.name)}](https://huggingface.co/${base.name})${
      base.revision === null ? "" : ` at \`${code(base.revision.slice(0, 12))}\``
    }`;
  const data = dataText(run);
  return `${what}${from}, fine-tuned by Firn${data === "" ? "" : ` on ${data}`}.`;
}

/** What a run read: names of a hub and of files, no paths of a machine. */
function dataText(run: Explanation | null): string {
  const { data } = run?.config ?? {};
  const sources = Array.isArray(data) ? data.map(String) : typeof data === "string" ? data.split(", ") : [];
  const shown = sources.map((source) =>
    source.startsWith("hub:") ? source.slice(4) : source.replace(/^.*[\\/]/, "")
  );
  return shown.slice(0, MOST_NAMES).map((source) => `\`${code(source)}\``).join(", ");
}

function settings({ config, steps, planned, adapter }: Explanation): string {
  const rows = Object.entries(config).filter(([key, value]) =>
    !LEFT_OUT.includes(key) && value !== null && value !== false && value !== "" && !isRecord(value)
  );
  const taken = planned === null || planned === steps ? [] : [["steps taken", steps] as const];
  return `## Settings\n\n${
    table(
      ["setting", "value"],
      [...rows, ...taken, ["GPU", adapter] as const].map(([key, value]) => [
        plain(key),
        plain((Array.isArray(value) ? value : [value]).map((one) => withoutFolder(String(one))).join(", ")),
      ]),
    )
  }`;
}

/** Of a path that says where things lie on a machine the last part: no other goes out. */
const withoutFolder = (text: string): string =>
  /^(\/|~|[a-z]:[\\/])/i.test(text) ? text.replace(/[\\/]+$/, "").replace(/^.*[\\/]/, "") : text;

function freezing({ changes, frozen, active, flopShare }: Explanation): string {
  if (changes.length === 0) return "## What froze\n\nNothing: every component was trained to the end.";
  const share = flopShare === null
    ? ""
    : `, and the run took ${(100 * flopShare).toFixed(1)} % of the FLOPs of one in which nothing freezes`;
  const rows = changes.map((
    change,
  ) => [String(change.step), movedText(change), reasonText(change), costText(change)]);
  return `## What froze\n\nFrozen at the end: ${frozen.length} of ${
    counted(frozen.length + active.length, "component")
  }${share}.\n\n${table(["step", "components", "why", "a step costs"], rows)}`;
}

function movedText({ frozen, thawed }: Change): string {
  const names = (moved: readonly Moved[]): string =>
    moved.slice(0, MOST_NAMES).map(({ path }) => `\`${code(path)}\``).join(", ") +
    (moved.length > MOST_NAMES ? ` and ${moved.length - MOST_NAMES} more` : "");
  const parts = [
    ...frozen.length > 0 ? [`${frozen.length} froze: ${names(frozen)}`] : [],
    ...thawed.length > 0 ? [`${thawed.length} thawed: ${names(thawed)}`] : [],
  ];
  return parts.join("; ");
}

function reasonText({ frozen }: Change): string {
  const reasons = frozen.map(({ reason }) => {
    if (reason === null) return "–";
    const { signal, threshold, rule } = reason;
    return threshold == null
      ? plain(rule ?? signal ?? "–")
      : `${plain(String(signal))} below ${short(threshold, 4)}`;
  });
  return [...new Set(reasons)].slice(0, 3).join("; ") || "–";
}

function costText({ before, after }: Change): string {
  const { matmulFlops: was } = before.cost, { matmulFlops: is, launches } = after.cost;
  if (launches === 0) return "training ended";
  const change = percent(was, is);
  return `${flopText(was)} → ${flopText(is)}${change === "" ? "" : ` (${change})`}`;
}

function results({ quality: { before, after }, finished }: Explanation): string {
  const rows = (["perplexity", "accuracy"] as const).flatMap((key) =>
    before[key] === undefined && after?.[key] === undefined
      ? []
      : [[key, numberText(before[key]), numberText(after?.[key])]]
  );
  const note = finished ? "" : "\n\nThe run is not finished.";
  if (rows.length === 0) return note.trim();
  return `## Results\n\nOn data that was held out:\n\n${table(["", "before", "after"], rows)}${note}`;
}

const numberText = (value: number | undefined): string => value === undefined ? "–" : short(value, 5);

function usage(
  { name, config, base, isAdapter }: {
    readonly name: string;
    readonly config: CardFacts["config"];
    readonly base: Base | null;
    readonly isAdapter: boolean;
  },
): string {
  const { auto } = autoOf(config), own = JSON.stringify(name);
  const revision = base?.name == null || base.revision === null
    ? ""
    : `, revision=${JSON.stringify(base.revision)}`;
  const lines = isAdapter
    ? [
      "from peft import PeftModel",
      `from transformers import ${auto}`,
      "",
      `base = ${auto}.from_pretrained(${JSON.stringify(base?.name ?? "PATH_OF_THE_BASE") + revision})`,
      `model = PeftModel.from_pretrained(base, ${own})`,
    ]
    : [`from transformers import ${auto}`, "", `model = ${auto}.from_pretrained(${own})`];
  return `## Use\n\n\`\`\`python\n${lines.join("\n")}\n\`\`\``;
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  return [line(head), `|${" --- |".repeat(head.length)}`, ...rows.map(line)].join("\n");
}

/** Text of a log in Markdown: it may come from a stranger. */
function plain(text: string): string {
  return printable(text).replace(/\s+/g, " ").slice(0, 400).replace(/[\\`*_[\]<>|#]/g, "\\$&");
}

/** The same within backticks. */
function code(text: string): string {
  return printable(text).replace(/\s+/g, " ").slice(0, 200).replace(/[`|]/g, "");
}
