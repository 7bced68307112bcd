/**
 * Builds the page that fine-tunes in a browser, and serves it on this machine.
 *
 * ```sh
 * deno run --allow-read --allow-write --allow-net=127.0.0.1 --allow-run=deno examples/browser.ts
 * ```
 *
 * @module
 */

import { fileURLToPath } from "node:url";
import { FirnError } from "@firn/train";
import { reportStyle } from "@firn/train/report";
import { readFlags, runMain, text, whole } from "./flags.ts";
import { helpOf } from "./help.ts";
import { checkOutput } from "./output.ts";
import { listen } from "./listen.ts";
import { print } from "./print.ts";
import { onEndSignal } from "./signals.ts";
import { readSite, type Site, siteHandler } from "./site.ts";

/** The flags of the command. */
export const FLAGS = {
  port: whole("port to listen on, 0 for any that is free", 8000, 0),
  out: text("DIR", "write the page to that new or empty folder, for another server, and serve nothing", null),
};

const USAGE = `usage: ./firn browser [flags]
       deno run --allow-read --allow-write --allow-net=127.0.0.1 --allow-run=deno examples/browser.ts [flags]

Builds a page that fine-tunes a model in a browser with WebGPU, and serves it on this machine at http://127.0.0.1:8000. Model,
text and result stay in the browser. Ctrl-C ends it.`;

const PAGE = new URL("./browser/", import.meta.url);
const MODEL = new URL("./models/sotu/", import.meta.url);

/** Where builds are made; each is removed once it is read. */
const BUILDS = ".firn";

/**
 * Builds the page.
 *
 * @param folder An empty folder
 * @throws {FirnError} When it cannot be bundled
 */
async function buildSite(folder: string): Promise<void> {
  const scripts = ["main.ts", "worker.ts"].map((name) => fileURLToPath(new URL(name, PAGE)));
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["bundle", "--quiet", "--platform=browser", "--minify", "--outdir", folder, ...scripts],
    stdout: "null",
    stderr: "piped",
  }).output();
  if (!success) {
    throw new FirnError(
      `Cannot build the page as "deno bundle" must succeed: ${new TextDecoder().decode(stderr).trim()}; ` +
        "it fetches its bundler from npm once, so see that there is a network then",
    );
  }
  for (const name of ["index.html", "page.css"]) {
    await Deno.copyFile(new URL(name, PAGE), `${folder}/${name}`);
  }
  await Deno.writeTextFile(`${folder}/report.css`, reportStyle);
  await Deno.mkdir(`${folder}/sotu`);
  for await (const { name } of Deno.readDir(MODEL)) {
    await Deno.copyFile(new URL(name, MODEL), `${folder}/sotu/${name}`);
  }
}

/** Builds the page into a folder that is removed. */
async function builtSite(): Promise<Site> {
  await Deno.mkdir(BUILDS, { recursive: true });
  const folder = await Deno.makeTempDir({ dir: BUILDS, prefix: "browser-" });
  try {
    await buildSite(folder);
    return await readSite(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/**
 * Runs the command.
 *
 * @param args The command line
 */
export async function main(args: readonly string[]): Promise<void> {
  const { values: flags, help } = readFlags(args, FLAGS);
  if (help) return print(helpOf(USAGE, FLAGS, help));
  if (flags.out !== null) {
    await checkOutput(flags.out, { resumed: false });
    await Deno.mkdir(flags.out, { recursive: true });
    await buildSite(flags.out);
    return print(`written     ${flags.out}: serve it by https, with the headers of examples/site.ts`);
  }
  const server = listen(flags.port, { path: "/", handler: siteHandler(await builtSite()) });
  const stop = (): void => void server.shutdown();
  using _signals = onEndSignal(stop);
  await server.finished;
}

if (import.meta.main) await runMain(main, "browser");
