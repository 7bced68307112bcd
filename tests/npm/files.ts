/**
 * Files and programs of the package for npm.
 *
 * @module
 */

/**
 * Lists the files of a folder and of the folders in it.
 *
 * @param folder The folder
 * @returns Their paths
 */
export async function filesBelow(folder: string): Promise<string[]> {
  const found: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(folder)) {
    const path = `${folder}/${name}`;
    found.push(...isDirectory ? await filesBelow(path) : [path]);
  }
  return found;
}

/**
 * Runs a program.
 *
 * @param folder Where
 * @param command The program and its arguments
 * @throws When it fails, with what it said
 */
export async function runIn(folder: string, [program, ...args]: readonly string[]): Promise<void> {
  const { code, stdout, stderr } = await new Deno.Command(program, {
    args: [...args],
    cwd: folder,
    env: { NO_COLOR: "1" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).output();
  const text = new TextDecoder();
  if (code !== 0) {
    throw new Error(`${program} ended with ${code}: ${text.decode(stdout)}${text.decode(stderr)}`);
  }
}
