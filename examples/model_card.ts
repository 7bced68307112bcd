/**
 * What the card of a model, its `README.md`, recommends.
 *
 * @module
 */

import { DataError } from "@firn/train";
import { type FileSystemOptions, hostFileSystem, pathInFolder } from "@firn/train/data";

/** Rate of full fine-tuning where nothing else is known: between those of the field, 2e-5 and 5e-5. */
export const PRETRAINED_RATE = 5e-5;

const CARD = "README.md";

/** More of a card is not read. */
const MOST_BYTES = 2 ** 16;

/** A learning rate, and why it is that. */
export interface Rate {
  readonly rate: number;
  readonly why: string;
  readonly from: "given" | "card" | "usual";
}

/**
 * Decides the largest learning rate of a fine-tune.
 *
 * @param folder The model's folder
 * @param given The rate that the command line gives; null for none
 * @param options The file system
 * @returns The rate: as given, or `learning_rate` of the front matter of the card, or that of pretrained models
 * @throws {DataError} When the card recommends no number from 1e-7 to 0.1, or is a link that leads out of the folder
 * @throws {FileError} When the card is no file
 */
export async function rateOf(
  folder: string,
  given: number | null,
  options: FileSystemOptions = {},
): Promise<Rate> {
  if (given !== null) return { rate: given, why: "as --lr says", from: "given" };
  const path = `${folder}/${CARD}`;
  const text = fieldOf(await beginningOf(folder, options), "learning_rate");
  if (text === null) {
    return { rate: PRETRAINED_RATE, why: "usual for pretrained models; --lr sets another", from: "usual" };
  }
  const rate = Number(text);
  if (!(rate >= 1e-7 && rate <= 0.1)) {
    throw new DataError(
      `Cannot take "learning_rate" from "${path}" as it must be a number from 1e-7 to 0.1: got ${
        JSON.stringify(text.slice(0, 40))
      }; give --lr`,
    );
  }
  return { rate, why: "as the model's card recommends; --lr sets another", from: "card" };
}

/**
 * The license of a model, which goes where its weights go.
 *
 * @param folder The model's folder
 * @returns As the front matter of the card names it; null when it does not
 */
export async function licenseOf(folder: string): Promise<string | null> {
  return fieldOf(await beginningOf(folder), "license")?.replace(/^(["'])(.*)\1$/, "$2") || null;
}

/** The value of a field in the front matter; null when there is none. */
function fieldOf(card: string, field: "learning_rate" | "license"): string | null {
  const [, front] = card.match(/^---\r?\n([^]*?)\r?\n---/) ?? [];
  return front?.match(new RegExp(`^${field}:[ \\t]*([^#\\r\\n]*?)[ \\t]*(?:#.*)?$`, "m"))?.[1] ?? null;
}

async function beginningOf(folder: string, options: FileSystemOptions = {}): Promise<string> {
  const { fileSystem: files = hostFileSystem() } = options;
  if (await files.stat(`${folder}/${CARD}`) === null) return "";
  await using file = await files.open(await pathInFolder(folder, CARD, options));
  return new TextDecoder().decode(await file.read(0, MOST_BYTES));
}
