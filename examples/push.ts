/**
 * Uploads a model or an adapter to a hub, with a card that tells how it was trained.
 *
 * ```sh
 * deno run --allow-read --allow-env --allow-net examples/push.ts out/finetune-1/model me/whales --private
 * ```
 *
 * @module
 */

import { InputError } from "@firn/train";
import { hostFileSystem, pathInFolder, readJson, trimmedPath } from "@firn/train/data";
import { pushFolder } from "@firn/train/hub";
import { explain, modelCard, readLog } from "@firn/train/report";
import { readFlags, runMain, text, toggle, UsageError } from "./flags.ts";
import { helpOf } from "./help.ts";
import { print } from "./print.ts";
import { stage, transferBar } from "./progress.ts";

/** The flags of the command. */
export const FLAGS = {
  private: toggle("make the repository private"),
  revision: text("BRANCH", "the branch to commit to, which is made when there is none", "main"),
  message: text("TEXT", "message of the commit", "Upload from Firn"),
  "new-card": toggle("let the card take the place of a README.md that somebody wrote in the repository"),
};

const USAGE = `usage: ./firn push FOLDER OWNER/NAME [flags]
       deno run --allow-read --allow-env --allow-net examples/push.ts FOLDER OWNER/NAME [flags]

Uploads the folder of a model or an adapter, or that of a run, in one commit: configuration, tokenizer, weights, card.
The card says what the model was made of, how it was trained, what froze and what came out, from the log of the run.
A README.md that somebody wrote stays as it is. Needs your token with write access: HF_TOKEN, or hf auth login.`;

const LOG = "metrics.jsonl";

/** The folder of the model, and the log of its run if there is one. */
async function placesOf(folder: string): Promise<{ readonly model: string; readonly log: string | null }> {
  const files = hostFileSystem(), place = trimmedPath(folder);
  const isThere = async (path: string): Promise<boolean> => await files.stat(path) !== null;
  if (await isThere(`${place}/${LOG}`)) {
    const found: string[] = [];
    for (const name of ["model", "adapter"]) if (await isThere(`${place}/${name}`)) found.push(name);
    if (found.length === 1) return { model: `${place}/${found[0]}`, log: `${place}/${LOG}` };
    throw new InputError(
      `Cannot push "${place}" as the folder of a run holds a model or an adapter: it holds ${
        found.length === 0 ? "neither; end the run" : "both"
      }; give the folder of one of them`,
    );
  }
  const log = `${place}/../${LOG}`;
  return { model: place, log: await isThere(log) ? log : null };
}

/** The card; none for a folder without a configuration, such as one of GGUF. */
async function cardOf(
  name: string,
  { model, log }: Awaited<ReturnType<typeof placesOf>>,
): Promise<string | undefined> {
  const files = hostFileSystem();
  const names = (await files.list(model)).map((entry) => entry.name);
  const config = ["adapter_config.json", "config.json"].find((one) => names.includes(one));
  if (config === undefined) return undefined;
  const run = log === null ? null : explain(await readLog(log));
  return modelCard({ name, config: await readJson(await pathInFolder(model, config)), run });
}

/**
 * Runs the command.
 *
 * @param args The command line
 */
export async function main(args: readonly string[]): Promise<void> {
  const named = args.findIndex((arg) => arg.startsWith("-")), end = named < 0 ? args.length : named;
  const [folder, name, ...rest] = args.slice(0, end);
  const { values: flags, help } = readFlags(args.slice(end), FLAGS);
  if (help) return print(helpOf(USAGE, FLAGS, help));
  if (folder === undefined || name === undefined) throw new UsageError("name a folder, then owner/name");
  if (rest.length > 0) throw new UsageError(`one folder and one name: "${rest[0]}" is too much`);
  if (name.includes("@")) throw new UsageError("the branch is that of --revision: give owner/name alone");
  const places = await placesOf(folder);
  const card = await cardOf(name, places);
  const pushed = await stage(
    `pushing     ${places.model}`,
    (say) =>
      pushFolder(places.model, `${name}@${flags.revision}`, {
        ...flags.private && { private: true },
        card,
        message: flags.message,
        replaceCard: flags["new-card"],
        onProgress: transferBar(say),
      }),
  );
  for (const path of pushed.files) print(`${"sent".padEnd(11)} ${path}`);
  for (const path of pushed.removed) {
    print(`${"removed".padEnd(11)} ${path}, which would be loaded in place of what was sent`);
  }
  for (const path of pushed.left) print(`${"stays here".padEnd(11)} ${path}, which is no part of a model`);
  print(
    `${"card".padEnd(11)} ${CARDS[pushed.card]}${
      pushed.replaced ? "; it replaces the one that was there" : ""
    }`,
  );
  print(`${"written".padEnd(11)} ${pushed.url}, commit ${pushed.commit}`);
}

const CARDS = {
  folder: "the README.md of the folder, as it is",
  made: "made of the configuration and, where there is one, the log of the run",
  kept: "the README.md of the repository is kept, as somebody wrote it; --new-card replaces it",
  none: "none",
};

if (import.meta.main) await runMain(main, "push");
