/**
 * The commands of Firn where Deno is there already, on any system and without a shell:
 *
 * ```sh
 * deno run --allow-all jsr:@firn/train/cli finetune --model ./my-llama --data notes.txt
 * ```
 *
 * Each command runs in a process of its own. It may read the current folder and what its arguments name, and write to `.firn`,
 * `out` and what its arguments name.
 *
 * @module
 */

import { fileURLToPath } from "node:url";
import { COMMANDS } from "./commands.ts";
import { devicePlan, LaunchError } from "./device_plan.ts";
import { type Launch, type LaunchPlan, planOf, startedBy, withoutRanks } from "./launch_plan.ts";
import { type Machine, pathsOf, thisMachine } from "./machine.ts";

/** A package of JSR, as its modules are addressed. */
const PACKAGE = /^https?:\/\/[^/]+\/(@[^/]+\/[^/]+)\/(\d[^/]*)\//;

/** Whether this is a copy of the repository: there are programs of its development, and folders to read. */
const isLocal = (): boolean => import.meta.url.startsWith("file:");

/** The commands, a line each. */
export function helpText(): string {
  const lines = Object.entries(COMMANDS).filter(([, { development }]) => !development || isLocal())
    .map(([name, { about }]) => `  ${name.padEnd(12)} ${about}`);
  return `usage: deno run --allow-all jsr:@firn/train/cli COMMAND [flags]\n
${lines.join("\n")}
  help         show this

--help behind a command lists its flags. --model, and MODEL, takes the name of a model on the hub, too, owner/name or
owner/name@revision, and --data that of a dataset, hub:owner/name[/path][@revision].`;
}

/** How a program of the package is named to Deno. */
function programOf(script: string, machine: Machine): string[] {
  const [, name, version] = PACKAGE.exec(import.meta.url) ?? [];
  if (name !== undefined) return [`jsr:${name}@${version}/cli`, "--here", script];
  const own = import.meta.resolve(`../${script}`);
  if (!isLocal()) return [own];
  const path = fileURLToPath(own);
  return [pathsOf(machine).resolve(machine.folder, script) === path ? script : path];
}

/** The arguments of Deno that run a program. */
function argsOf({ flags, script, args }: Launch, machine: Machine): string[] {
  const own = machine.env("FIRN_FLAGS")?.split(" ") ?? [];
  return ["run", ...own, ...flags, ...programOf(script, machine), ...args];
}

/** A word of a shell's command line. */
const quoted = (word: string): string =>
  /^[\w./=:,@+-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;

/**
 * A run of Deno as a line of a shell.
 *
 * @param launch The run
 * @param machine The machine
 * @returns Commands that set its variables and put it in the place of the shell
 */
export function shellLines(launch: Launch, machine: Machine): string {
  const set = Object.entries(launch.env).map(([name, value]) => `export ${name}=${quoted(value)}`);
  const words = [...launch.through ?? [], "deno", ...argsOf(launch, machine)];
  return [...set, `exec ${words.map(quoted).join(" ")}`].join("\n");
}

/** Variables without which Deno finds no adapter on Linux: that of OpenGL lacks what the kernels need. */
function driverVariables({ os, env }: Machine): Record<string, string> {
  return os === "linux" && env("DENO_WEBGPU_BACKEND") === undefined ? { DENO_WEBGPU_BACKEND: "vulkan" } : {};
}

/** Runs Deno, which takes signals for this process. */
async function runLaunch(launch: Launch, machine: Machine): Promise<number> {
  const [program, ...args] = [...launch.through ?? [], Deno.execPath(), ...argsOf(launch, machine)];
  const child = new Deno.Command(program, {
    args,
    env: { ...driverVariables(machine), ...launch.env },
  }).spawn();
  using _signals = handOn(child, { terminal: Deno.stdin.isTerminal(), os: machine.os });
  const { code } = await child.status;
  return code;
}

/**
 * Which signals a process hands on to the one that it started. In a terminal, Ctrl-C reaches both; what is handed on as well
 * would be the second one, at which a run exits at once. Windows has SIGBREAK, which reaches both, and no SIGTERM or SIGHUP.
 *
 * @param options `terminal`: whether standard input is one; `os`: the system
 * @returns Names of signals, and whether each is handed on
 */
export function signalsOf(
  { terminal, os }: { readonly terminal: boolean; readonly os: string },
): Partial<Record<Deno.Signal, boolean>> {
  if (os === "windows") return { SIGINT: false, SIGBREAK: false };
  return { SIGINT: !terminal, SIGTERM: true, SIGHUP: !terminal };
}

function handOn(
  child: Deno.ChildProcess,
  options: { readonly terminal: boolean; readonly os: string },
): Disposable {
  const listeners = Object.entries(signalsOf(options)).map(([name, sent]) => {
    const signal = name as Deno.Signal;
    const listener = (): void => {
      if (!sent) return; // The other process has it, too: wait for its end.
      try {
        child.kill(signal);
      } catch (error) {
        if (!(error instanceof TypeError)) throw error; // It has ended.
      }
    };
    Deno.addSignalListener(signal, listener);
    return () => Deno.removeSignalListener(signal, listener);
  });
  return { [Symbol.dispose]: () => listeners.forEach((remove) => remove()) };
}

/** The flags of the file that `--config` names, read by a process that may read only that. */
async function configured(args: readonly string[], machine: Machine): Promise<string[]> {
  const at = args.findIndex((arg) => arg === "--config" || arg.startsWith("--config="));
  if (at < 0) return [];
  const path = args[at].includes("=") ? args[at].replace("--config=", "") : args[at + 1];
  if (path === undefined) return [];
  const { main: { flags } } = planOf(["explain", path], { machine: withoutRanks(machine) });
  const read = flags.find((flag) => flag.startsWith("--allow-read"))!;
  const launch: Launch = { env: {}, flags: [read], script: "examples/config_flags.ts", args: [path] };
  const { code, stdout } = await new Deno.Command(Deno.execPath(), {
    args: argsOf(launch, machine),
    stderr: "inherit",
    stdout: "piped",
  }).output();
  if (code !== 0) Deno.exit(code);
  return new TextDecoder().decode(stdout).split("\n").filter((line) => line !== "");
}

/** Downloads what a command names. What it prints is not what the command prints. */
async function runBefore({ before }: LaunchPlan, machine: Machine): Promise<void> {
  for (const launch of before) {
    const { code } = await new Deno.Command(Deno.execPath(), {
      args: argsOf(launch, machine),
      env: launch.env,
      stdout: "null",
      stderr: "inherit",
    }).output();
    if (code !== 0) Deno.exit(code);
  }
}

/** Runs a program of the package in this process: one of JSR has no path of its own. */
async function runHere(script: string, args: readonly string[]): Promise<void> {
  const { main } = await import(import.meta.resolve(`../${script}`));
  const { runMain } = await import(import.meta.resolve("./flags.ts"));
  await runMain(() => main(args), script.replace(/^.*\/|\.ts$/g, ""));
}

/**
 * Runs the command line.
 *
 * @param args The command and its arguments
 * @returns The exit status
 */
export async function main([first, ...rest]: readonly string[]): Promise<number> {
  if (first === "--here") {
    await runHere(rest[0], rest.slice(1));
    return 0;
  }
  const shell = first === "--shell", [command, ...args] = shell ? rest : [first, ...rest];
  if (command === "help" || command === "--help" || command === "-h") {
    console.log(helpText());
    return 0;
  }
  if (!Object.hasOwn(COMMANDS, command ?? "") || COMMANDS[command].development && !isLocal()) {
    console.error(
      command === undefined ? helpText() : `firn: there is no command "${command}": help lists them`,
    );
    return 2;
  }
  const machine = thisMachine();
  try {
    const fromFile = await configured(args, machine), ranked = startedBy(machine) > 1;
    const device = await devicePlan([...fromFile, ...args], { machine, ranked });
    if (device?.said !== undefined) console.error(`firn: ${device.said}`);
    const plan = planOf([command, ...args], { machine, configured: fromFile, device });
    await runBefore(plan, machine);
    if (!shell) return await runLaunch(plan.main, machine);
    console.log(shellLines(plan.main, machine));
    return 0;
  } catch (error) {
    if (!(error instanceof LaunchError)) throw error;
    console.error(`firn: ${error.message}`);
    return 1;
  }
}

if (import.meta.main) Deno.exit(await main(Deno.args));
