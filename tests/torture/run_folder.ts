/**
 * The output folder of a run: how far it came, and whether it is whole.
 *
 * @module
 */

/** How far the run of a folder came. */
export type Progress =
  /** Nothing was trained: there is nothing to lose. */
  | "clean"
  /** A checkpoint is there. */
  | "resumable"
  /** The model and its report are there. */
  | "finished"
  /** It trained, and nothing is left to go on with. */
  | "lost";

async function namesIn(folder: string): Promise<string[]> {
  try {
    return (await Array.fromAsync(Deno.readDir(folder))).map(({ name }) => name).sort();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

async function textOf(path: string): Promise<string> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "";
    throw error;
  }
}

/** Says how far the run of a folder came. */
export async function progressOf(folder: string): Promise<Progress> {
  const names = await namesIn(folder);
  if (names.some((name) => /^checkpoint(\.\d+)?\.safetensors$/.test(name))) return "resumable";
  const log = await textOf(`${folder}/metrics.jsonl`);
  if (log.includes('"kind":"end"') && names.includes("report.html")) return "finished";
  return log.includes('"kind":"step"') || names.includes("model") ? "lost" : "clean";
}

/** What two runs with the same flags must share, by name: files of the model, and the log without pace and folder. */
export async function contentOf(folder: string): Promise<ReadonlyMap<string, string>> {
  const content = new Map<string, string>();
  // The lock of a run that was killed at its very end stays, and so does the tokenizer of a pretraining.
  const names = (await namesIn(folder)).filter((name) => name !== ".firn.lock" && name !== "tokenizer");
  content.set("names", names.join(" "));
  for (const name of await namesIn(`${folder}/model`)) {
    content.set(`model/${name}`, (await Deno.readFile(`${folder}/model/${name}`)).toHex());
  }
  content.set(
    "report.html ends",
    String((await textOf(`${folder}/report.html`)).trimEnd().endsWith("</html>")),
  );
  const log = await textOf(`${folder}/metrics.jsonl`);
  log.trimEnd().split("\n").forEach((row, i) =>
    content.set(`line ${i + 1} of metrics.jsonl`, plainLine(row))
  );
  return content;
}

/** What differs from run to run. */
const MEASURED = ["stepMs", "tokensPerSecond", "memoryBytes", "exchangeMs", "exchangeWaitedMs"];

function plainLine(row: string): string {
  try {
    const line = JSON.parse(row);
    for (const name of MEASURED) delete line[name];
    if (line.config !== undefined) line.config.out = null;
    return JSON.stringify(line);
  } catch {
    return `no JSON: ${row.slice(0, 60)}`;
  }
}

/** What differs between two contents; null for nothing. */
export function differenceOf(
  seen: ReadonlyMap<string, string>,
  expected: ReadonlyMap<string, string>,
): string | null {
  for (const name of new Set([...expected.keys(), ...seen.keys()])) {
    const [a, b] = [seen.get(name), expected.get(name)];
    if (a === b) continue;
    const shorten = (text = "nothing") => text.length > 120 ? `${text.slice(0, 117)}...` : text;
    return `${name} is ${shorten(a)}, not ${shorten(b)}`;
  }
  return null;
}
