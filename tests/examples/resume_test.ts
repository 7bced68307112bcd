/**
 * The example `finetune`, killed at random moments and continued.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { inFolder } from "../data/files.ts";
import { finetune, small, startExample, TEXT } from "./process.ts";

const STEPS = 28;

/** The log without what no two runs share: the pace and the folder. */
async function readLog(out: string): Promise<Record<string, unknown>[]> {
  const text = await Deno.readTextFile(`${out}/metrics.jsonl`);
  return text.trimEnd().split("\n").map((row) => {
    const { stepMs: _, tokensPerSecond: __, memoryBytes: ___, ...line } = JSON.parse(row);
    return line.kind === "start" ? { ...line, config: { ...line.config, out: null } } : line;
  });
}

/** What tells two versions of a file apart; null when there is none. */
async function versionOf(path: string): Promise<string | null> {
  try {
    const { mtime, ino, size } = await Deno.stat(path);
    return `${mtime?.getTime()} ${ino} ${size}`;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    throw error;
  }
}

/** The last step in a log; 0 when there is none. */
async function lastStep(log: string): Promise<number> {
  if (await versionOf(log) === null) return 0;
  return Math.max(
    0,
    ...[...(await Deno.readTextFile(log)).matchAll(/"step":(\d+),/g)].map(([, step]) => Number(step)),
  );
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Starts a run, waits until something holds and a while longer, and kills it. */
async function killLater(
  args: readonly string[],
  { folder, until, wait }: {
    readonly folder: string;
    readonly until: () => Promise<boolean>;
    readonly wait: number;
  },
): Promise<void> {
  const process = startExample("finetune", args, folder);
  let alive = true;
  const ended = process.output().finally(() => alive = false);
  while (alive && !await until()) await pause(1);
  await pause(wait);
  if (alive) process.kill("SIGKILL");
  const { signal, stdout, stderr } = await ended;
  const text = new TextDecoder();
  assertEquals(signal, "SIGKILL", `it ended by itself: ${text.decode(stdout)}${text.decode(stderr)}`);
}

Deno.test("finetune --resume ends with the same bits and the same log as a run that nobody killed", async () => {
  await inFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/text.txt`, TEXT);
    const [whole, broken] = [`${folder}/whole`, `${folder}/broken`];
    // Looks lie between checkpoints, the signal needs the gradient of the step before, and some matrices fall below tau
    // at the look of step 10 and more at that of step 20.
    const flags = `--steps ${STEPS} --checkpoint 7 --metric gradDelta --tau 5 --alpha 0.3`.split(" ");
    const run = (out: string): string[] => small([...flags, "--data", `${folder}/text.txt`, "--out", out]);
    const undisturbed = await finetune(run(whole), folder);
    assertEquals([undisturbed.code, undisturbed.stderr], [0, ""]);

    const [log, checkpoint] = [`${broken}/metrics.jsonl`, `${broken}/checkpoint.safetensors`];
    // The steps of the first look, that of step 10, come when the checkpoint is that of step 7.
    const looked = async (): Promise<boolean> =>
      await versionOf(log) !== null && (await Deno.readTextFile(log)).includes('"kind":"step"');
    await killLater(run(broken), { folder, until: looked, wait: 0 });
    let version = await versionOf(checkpoint), written = 0;
    assert(version !== null);
    const [a, b] = crypto.getRandomValues(new Uint8Array(2));
    const random = { times: 1 + a % 2, wait: b % 128 };
    console.log(`killed again ${random.wait} ms after checkpoint ${random.times}`);
    const saved = async (): Promise<boolean> => {
      const now = await versionOf(checkpoint);
      if (now !== version) written++;
      version = now;
      return written >= random.times;
    };
    await killLater(["--resume", broken], { folder, until: saved, wait: random.wait });
    const resumed = await finetune(["--resume", broken], folder);
    assertEquals([resumed.code, resumed.stderr], [0, ""]);
    console.log(resumed.stdout.match(/^resumed .*$/m)![0]);

    const [expected, seen] = [await readLog(whole), await readLog(broken)];
    const steps = expected.filter(({ kind }) => kind === "step").map(({ step }) => step);
    assertEquals(steps, Array.from({ length: STEPS }, (_, i) => i + 1));
    assert(expected.filter(({ kind }) => kind === "freeze").length >= 2);
    seen.forEach((line, i) => assertEquals(line, expected[i], `Line ${i + 1} differs`));
    assertEquals(seen.length, expected.length);
    const weights = (out: string) => Deno.readFile(`${out}/model/model.safetensors`);
    assertEquals(await weights(broken), await weights(whole));
    assertEquals(await versionOf(checkpoint), null);
  });
});

Deno.test("finetune finishes its step at a signal, saves, says how to go on and exits with 143 or 130", async () => {
  await inFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/text.txt`, TEXT);
    const out = `${folder}/out`, log = `${out}/metrics.jsonl`;
    const args = small(["--steps", "120", "--data", `${folder}/text.txt`, "--out", out]);
    for (const [signal, code] of [["SIGTERM", 143], ["SIGINT", 130]] as const) {
      const begun = signal === "SIGINT";
      const process = startExample("finetune", begun ? ["--resume", out, "--memory", "1 GiB"] : args, folder);
      // The signal comes when the run itself has logged steps, so that it listens by then.
      const before = begun ? await lastStep(log) : 0;
      while (await lastStep(log) < before + 10) await pause(1);
      process.kill(signal);
      const ended = await process.output(), stderr = new TextDecoder().decode(ended.stderr);
      assertEquals(ended.code, code, stderr);
      assertEquals(stderr.includes(`is saved: go on with --resume ${out}`), true, stderr);
    }
  });
});
