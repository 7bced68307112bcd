import { DataError, NotFoundError } from "@firn/train";
import { divided, type Example, type Labelled } from "../../examples/labelled_text.ts";
import { hostFileSystem } from "@firn/train/data";

/**
 * Intents for the comparison of policies.
 *
 * @module
 */

/**
 * Reads a folder of intents in the form of the NLU benchmark of Snips (2017): `train_INTENT_full.json`, of which a tenth is
 * the validation part, and `validate_INTENT.json`, which is the test part.
 *
 * @param folder The folder
 * @returns The examples, labelled by intent
 * @throws {NotFoundError} When the folder or one of the two kinds of files is missing
 * @throws {DataError} When a file has another form
 */
export async function readIntents(folder: string): Promise<Labelled> {
  const names = (await hostFileSystem().list(folder)).map(({ name }) => name);
  const partOf = async (pattern: RegExp): Promise<Example[]> => {
    const files = names.filter((name) => pattern.test(name)).sort();
    if (files.length === 0) {
      throw new NotFoundError(
        `Cannot read "${folder}" as it must hold files train_INTENT_full.json and validate_INTENT.json: ` +
          `none matches ${pattern}; give that folder by --data`,
      );
    }
    return (await Promise.all(files.map((name) => readIntent(`${folder}/${name}`)))).flat();
  };
  const train = divided(await partOf(/^train_.*_full\.json$/));
  const test = await partOf(/^validate_.*\.json$/);
  const judged = new Set(test.map(({ text }) => text));
  const unseen = (examples: readonly Example[]) => examples.filter(({ text }) => !judged.has(text));
  return {
    train: unseen([...train.train, ...train.test]),
    validation: unseen(train.validation),
    test,
  };
}

async function readIntent(path: string): Promise<Example[]> {
  const bytes = await hostFileSystem().read(path);
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    // One file of the published set is in Latin-1.
    text = new TextDecoder("latin1").decode(bytes);
  }
  const intents: Record<string, { data: { text: string }[] }[]> = JSON.parse(text);
  return Object.entries(intents).flatMap(([label, queries]) =>
    queries.map((query) => {
      if (Array.isArray(query.data)) {
        return { text: query.data.map((part) => part.text).join("").trim(), label };
      }
      throw new DataError(
        `Cannot read "${path}" as an intent must be a list of queries with parts in "data": a query has none`,
      );
    })
  );
}
