/**
 * Special tokens: what the files of a checkpoint name, compared with the vocabulary.
 *
 * @module
 */

import { type Fields, isWhole } from "./fields.ts";
import type { Frame } from "./frame.ts";

/** Tokens and their ids, both ways. */
export interface Vocabulary {
  /** The id of a token. */
  idOf(token: string): number | undefined;
  /** The token of an id, as `tokenizer.json` has it. */
  tokenOf(id: number): string | undefined;
}

const NAMED = ["bos", "eos", "unk", "pad", "sep", "cls", "mask"] as const;

/**
 * Compares `tokenizer_config.json` with the vocabulary: each special token that it names is there, and each id of
 * `added_tokens_decoder` stands for the same token.
 *
 * @param settings The file
 * @param vocabulary The vocabulary of `tokenizer.json`
 * @throws {DataError} When they differ
 */
export function checkSettings(settings: Fields, vocabulary: Vocabulary): void {
  for (const which of NAMED) namedId(settings, { which, vocabulary });
  const tokens = settings.object("added_tokens_decoder");
  for (const key of Object.keys(tokens?.json ?? {})) {
    const named = tokens!.object(key)?.text("content"), own = vocabulary.tokenOf(Number(key));
    if (named === own) continue;
    const rule = own === undefined ? "an id of tokenizer.json" : `"${own}", as in tokenizer.json`;
    throw tokens!.error(key, rule, named);
  }
}

/**
 * The id of a special token that the settings name.
 *
 * @param settings `tokenizer_config.json`
 * @param options `which` token, and the vocabulary
 * @returns The id; null when the settings name none
 * @throws {DataError} When the token is not in the vocabulary
 */
export function namedId(
  settings: Fields,
  { which, vocabulary }: { readonly which: typeof NAMED[number]; readonly vocabulary: Vocabulary },
): number | null {
  const text = tokenText(settings, `${which}_token`);
  if (text === null) return null;
  const id = vocabulary.idOf(text);
  if (id === undefined) throw settings.error(`${which}_token`, "a token of tokenizer.json", text);
  return id;
}

/** A token, written as a text or as an object with its `content`; null where there is none. */
function tokenText(fields: Fields, key: string): string | null {
  const named = fields.json[key] ?? null;
  if (named === null) return null;
  return typeof named === "string" ? named : fields.object(key)!.text("content");
}

/** The tokens that stand for images and sounds. A model of text alone has no ids for them. */
export function placeholders(settings: Fields): ReadonlySet<string> {
  const names = ["image_token", "audio_token", "video_token"];
  return new Set(names.map((name) => tokenText(settings, name)).filter((text) => text !== null));
}

/**
 * The ids that a file states under a name.
 *
 * @param file The file
 * @param key The name
 * @param most The highest id of the vocabulary
 * @returns One, several, or none
 * @throws {DataError} When one is not an id of the vocabulary
 */
export function statedIds(file: Fields, key: string, most: number): readonly number[] {
  const ids = [file.json[key] ?? []].flat();
  const bad = ids.find((id) => !isWhole(id, most));
  if (bad !== undefined) {
    throw file.error(key, `an id of the vocabulary, a whole number from 0 to ${most}`, bad);
  }
  return ids as number[];
}

/**
 * What the tokenizer puts around a text. `add_bos_token` of the settings goes before what the post-processor says;
 * `add_eos_token` decides nothing, as a document ends with EOS anyway.
 *
 * @param frame What the post-processor says
 * @param options The settings, and the ids of BOS and EOS
 * @returns The frame
 * @throws {DataError} When the settings want a token that there is not
 */
export function framed(
  frame: Frame,
  { settings, bos, eos }: {
    readonly settings: Fields;
    readonly bos: number | null;
    readonly eos: number | null;
  },
): Frame {
  if (settings.flag("add_eos_token", false) && eos === null) {
    throw settings.error("add_eos_token", "false where there is no eos_token", true);
  }
  if ((settings.json.add_bos_token ?? null) === null) return frame;
  const wanted = settings.flag("add_bos_token", false), others = frame.before.filter((id) => id !== bos);
  if (wanted && bos === null) {
    throw settings.error("add_bos_token", "false where there is no bos_token", true);
  }
  return { ...frame, before: wanted ? [bos!, ...others] : others };
}
