/**
 * Examples as processes of their own, and a text small enough for tests.
 *
 * @module
 */

/** Flags that keep a run short. */
const SMALL = ["--steps", "6", "--batch", "2", "--length", "16"];

/**
 * Flags in place of others, as a command line may give each once.
 *
 * @param flags Names and values by turns
 * @param own Flags that take the place of those of the same name
 * @returns Flags that each stand once, `own` last
 */
export function overridden(flags: readonly string[], own: readonly string[]): string[] {
  const given = own.map((arg) => arg.split("=")[0]);
  return [...flags.filter((_, i) => !given.includes(flags[i - i % 2])), ...own];
}

/** A command line that keeps a run short but for the flags that it gives itself. */
export function small(args: readonly string[]): string[] {
  return overridden(SMALL, args);
}

/** A text in which the bundled model soon finds its way: one sentence, again and again. */
export const TEXT = "The people of the United States have the honor to report that the whale was seen again. "
  .repeat(30);

/** How a process ended, and what it printed. */
export interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Calls the main function of a command, in silence.
 *
 * @param main The function
 * @param args The command line
 * @param onWrite Called with what it writes besides whole lines, such as the bar
 * @returns What it threw; null when it ended well
 */
export async function call(
  main: (args: readonly string[]) => Promise<void>,
  args: readonly string[],
  onWrite: (text: string) => void = () => {},
): Promise<unknown> {
  const { log, error: print } = console;
  try {
    console.log = console.error = () => {};
    Deno.stdout.writeSync = (bytes) => {
      onWrite(new TextDecoder().decode(bytes));
      return bytes.length;
    };
    await main(args);
    return null;
  } catch (error) {
    return error;
  } finally {
    Object.assign(console, { log, error: print });
    // What stands before the prototype's.
    Reflect.deleteProperty(Deno.stdout, "writeSync");
  }
}

const ROOT = new URL("../../", import.meta.url);

/**
 * Starts an example. The shell is replaced by Deno, so that a signal to the child reaches it.
 *
 * @param name Its file, without the end
 * @param args Its arguments
 * @param folder Folder that the driver may use at run time
 * @returns The process
 */
export function startExample(name: string, args: readonly string[], folder: string): Deno.ChildProcess {
  return startDeno(["--allow-read", "--allow-write", `examples/${name}.ts`, ...args], folder);
}

/**
 * Starts a program of this repository in Deno.
 *
 * @param args Permissions, the program, and its arguments
 * @param folder Folder that the driver may use at run time
 * @returns The process
 */
export function startDeno(args: readonly string[], folder: string): Deno.ChildProcess {
  return startProgram(denoCommand(args), folder);
}

/** The command that runs a program of this repository in Deno. */
export function denoCommand(args: readonly string[]): readonly string[] {
  // Where these tests run with stand-ins, the process needs them too.
  const standIns = import.meta.resolve("@std/assert").startsWith("file:");
  const map = standIns ? ["--import-map=tests/stand_ins/import_map.json"] : [];
  return [Deno.execPath(), "run", ...map, ...args];
}

/**
 * Starts a program. The shell is replaced by it, so that a signal to the child reaches it.
 *
 * @param command The program and its arguments, seen from the root of the repository
 * @param folder Folder that the driver may use at run time
 * @returns The process
 */
export function startProgram(command: readonly string[], folder: string): Deno.ChildProcess {
  return new Deno.Command("sh", {
    args: ["-c", 'exec "$0" "$@"', ...command],
    cwd: ROOT,
    env: { XDG_RUNTIME_DIR: folder, NO_COLOR: "1" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

/**
 * Runs an example to its end.
 *
 * @param name Its file, without the end
 * @param args Its arguments
 * @param folder Folder that the driver may use at run time
 * @returns How it ended
 */
export async function example(name: string, args: readonly string[], folder: string): Promise<Outcome> {
  const { code, stdout, stderr } = await startExample(name, args, folder).output();
  const text = new TextDecoder();
  return { code, stdout: text.decode(stdout), stderr: text.decode(stderr) };
}

/** Runs `finetune` to its end. */
export function finetune(args: readonly string[], folder: string): Promise<Outcome> {
  return example("finetune", args, folder);
}
