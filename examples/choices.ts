/**
 * Multiple choice by log-likelihood, as lm-evaluation-harness scores it.
 *
 * @module
 */

import { DataError, type Gpu, type Model } from "@firn/train";
import { type AskedText, logProbabilities } from "@firn/train/infer";
import { hostFileSystem, type Tokenizer } from "@firn/train/data";
import { counted } from "@firn/train/report";
import { stage } from "./progress.ts";

/** A question, and what may follow it. */
export interface Question {
  /** What stands before each choice; more than one where choices differ in what is before and not in what follows. */
  readonly contexts: readonly string[];
  /** What is scored: one for each choice. */
  readonly continuations: readonly string[];
  /** Index of the right one. */
  readonly gold: number;
}

/** How good a model is at questions. */
export interface ChoiceScores {
  /** Share of questions whose right choice is the likeliest. */
  readonly accuracy: number;
  /** The same by log-likelihood for each character of a choice. */
  readonly accuracyByLength: number;
  /** Share of questions whose right choice is right by chance, in the mean. */
  readonly chance: number;
  /** Questions. */
  readonly count: number;
}

/** A row of a file. */
type Row = Readonly<Record<string, unknown>>;

/**
 * Reads questions: `{"question" | "query" | "context" | "ctx", "choices" | "endings" | "options", "answer" | "label" | "gold" |
 * "answerKey"}`, where choices are texts, or `{"text", "label"}` as those of ARC are, and the answer is a choice, its label,
 * its letter or its index from 0; or `{"instruction", "answer"}` with the choices in the instruction, as in
 * commonsense of LLM-Adapters.
 *
 * @param path A file of JSON or of lines of JSON
 * @returns The questions; null when no row is one or has choices
 * @throws {DataError} When a row is none and another is, or has choices
 */
export async function readQuestions(path: string): Promise<readonly Question[] | null> {
  const text = new TextDecoder().decode(await hostFileSystem().read(path));
  const whole = /\.json$/i.test(path), parsed: unknown = whole ? parse(text, `"${path}"`) : null;
  const rows = whole
    ? (Array.isArray(parsed) ? parsed : []).map((row, i) => ({ row, place: `row ${i + 1}` }))
    : text
      .split("\n").map((line, i) => ({ line, place: `line ${i + 1}` })).filter(({ line }) =>
        line.trim() !== ""
      )
      .map(({ line, place }) => ({ row: parse(line, `${place} of "${path}"`) as Row, place }));
  if (!rows.some(({ row }) => questionOf(row) !== null || hasChoices(row))) return null;
  return rows.map(({ row, place }) => {
    const question = questionOf(row);
    if (question !== null) return question;
    throw new DataError(
      `Cannot use ${place} of "${path}" as it must be a question with choices and an answer`,
    );
  });
}

function hasChoices(row: Row | null): boolean {
  return (row?.choices ?? row?.endings ?? row?.options) !== undefined;
}

function parse(text: string, place: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new DataError(`Cannot read ${place} as it must be JSON: ${(error as Error).message}`, {
      cause: error,
    });
  }
}

/** A question of any of the known forms; null for anything else. */
export function questionOf(row: Row): Question | null {
  if (typeof row !== "object" || row === null) return null;
  if (typeof row.instruction === "string" && typeof row.answer === "string") {
    return instructionOf(row.instruction, row.answer);
  }
  const asked = row.question ?? row.query ?? row.context ?? row.ctx;
  const { texts, labels } = choicesOf(row.choices ?? row.endings ?? row.options);
  const answer = row.answerKey ?? row.answer ?? row.label ?? row.gold;
  const gold = goldOf(answer, { texts, labels });
  if (typeof asked !== "string" || texts.length < 2 || !(gold >= 0 && gold < texts.length)) return null;
  if (texts.some((text) => text.trim() === "")) return null;
  return plain(asked, texts, gold);
}

/** The index that an answer names; -1 for none. */
function goldOf(
  answer: unknown,
  { texts, labels }: { readonly texts: readonly string[]; readonly labels: readonly string[] },
): number {
  const name = String(answer), named = [labels.indexOf(name)];
  if (typeof answer === "string") named.push(texts.indexOf(name));
  if (labels.length === 0 || typeof answer === "number") {
    named.push(/^\d+$/.test(name) ? Number(name) : -1, /^[A-Z]$/.test(name) ? name.charCodeAt(0) - 65 : -1);
  }
  return named.find((at) => at >= 0) ?? -1;
}

function choicesOf(
  value: unknown,
): { readonly texts: readonly string[]; readonly labels: readonly string[] } {
  const record = typeof value === "object" && value !== null && !Array.isArray(value) ? value as Row : null;
  const list = (values: unknown): readonly string[] => Array.isArray(values) ? values.map(String) : [];
  return { texts: list(record?.text ?? value), labels: list(record?.label) };
}

function plain(question: string, texts: readonly string[], gold: number): Question {
  const context = `Question: ${question.trim()}\nAnswer:`;
  return { contexts: texts.map(() => context), continuations: texts.map((text) => ` ${text.trim()}`), gold };
}

/** The forms of commonsense: choices follow the question, by name. */
function instructionOf(instruction: string, answer: string): Question | null {
  const [, names] = instruction.match(/Answer format:\s*(\S+)\s*$/) ?? [];
  const labels = names?.split("/") ?? [], gold = labels.indexOf(answer);
  if (gold < 0) return null;
  const body = instruction.slice(0, instruction.lastIndexOf("Answer format:")).trim();
  const begins = labels.map((label) => body.search(new RegExp(`\\b${label}:`, "i")));
  const asked = body.replace(/^[^:]*?(?:question|sentence)[^:]*:\s*/i, "");
  // Without choices of their own, the labels are what may be answered: true or false.
  if (begins.some((at) => at < 0)) return plain(asked, labels, gold);
  const texts = begins.map((at, i) => body.slice(at + labels[i].length + 1, begins[i + 1]).trim());
  const question = asked.slice(0, asked.search(new RegExp(`\\b${labels[0]}:`, "i"))).trim();
  const [before, after] = question.split("_");
  // A blank to be filled: what follows it is scored, after each choice.
  if (after !== undefined && /blank/i.test(body.slice(0, 80))) {
    return {
      contexts: texts.map((text) => before + text),
      continuations: texts.map(() => after.trimEnd()),
      gold,
    };
  }
  return plain(question, texts, gold);
}

/** The ids of a context and what follows. The border is that of both together, as tokens may not cross it. */
function askedOf({ encode, before }: Tokenizer, context: string, continuation: string): AskedText {
  // A space belongs to what follows it.
  const trimmed = context.trimEnd(), moved = context.slice(trimmed.length) + continuation;
  const head = encode(trimmed), all = encode(trimmed + moved);
  return {
    ids: [...before, ...all],
    from: Math.max(1, before.length + Math.min(head.length, all.length - 1)),
  };
}

/**
 * The log-likelihood of each continuation.
 *
 * @param gpu The device
 * @param model The model
 * @param options Pairs of a context and what follows, the tokenizer; `batch`: how many share a pass over the weights
 * @returns Nats, one for each pair
 */
export async function logLikelihoods(
  gpu: Gpu,
  model: Model,
  { tokenizer, pairs, batch }: {
    readonly tokenizer: Tokenizer;
    readonly batch?: number;
    readonly pairs: readonly (readonly [context: string, continuation: string])[];
  },
): Promise<readonly number[]> {
  const texts = pairs.map(([context, continuation]) => askedOf(tokenizer, context, continuation));
  const asked = [...texts.keys()].filter((i) => texts[i].from < texts[i].ids.length);
  const found = await stage(
    `scoring     ${counted(pairs.length, "answer")}`,
    (say) =>
      logProbabilities(gpu, model, {
        texts: asked.map((i) => texts[i]),
        batch,
        onProgress: ({ done, total }) => say(`${done} of ${total}`),
      }),
  );
  // A lone token has nothing before it that tells how likely it is.
  const result = pairs.map(() => 0);
  asked.forEach((at, i) => result[at] = found[i].reduce((sum, value) => sum + value, 0));
  return result;
}

/**
 * Scores a model on questions: the choice with the largest log-likelihood is its answer, in all and for each character.
 *
 * @param gpu The device
 * @param model The model
 * @param options The questions, the tokenizer; `batch`: how many answers share a pass over the weights
 * @returns The scores
 */
export async function scoreChoices(
  gpu: Gpu,
  model: Model,
  { questions, tokenizer, batch }: {
    readonly questions: readonly Question[];
    readonly tokenizer: Tokenizer;
    readonly batch?: number;
  },
): Promise<ChoiceScores> {
  const pairs = questions.flatMap(({ contexts, continuations }) =>
    continuations.map((text, i) => [contexts[i], text] as const)
  );
  const likelihoods = await logLikelihoods(gpu, model, { tokenizer, pairs, batch });
  let at = 0, right = 0, rightByLength = 0, chance = 0;
  for (const { continuations, gold } of questions) {
    const values = likelihoods.slice(at, at += continuations.length);
    const lengths = continuations.map((text) => [...text.trim()].length);
    const best = (scores: readonly number[]): number => scores.indexOf(Math.max(...scores));
    if (best(values) === gold) right++;
    if (best(values.map((value, i) => value / lengths[i])) === gold) rightByLength++;
    chance += 1 / continuations.length;
  }
  const count = questions.length;
  return { accuracy: right / count, accuracyByLength: rightByLength / count, chance: chance / count, count };
}
