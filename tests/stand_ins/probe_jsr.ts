/**
 * Ends with 0 when JSR answers and 3 when it does not within four seconds. The launcher runs it without any permission.
 *
 * In a loop the names are out of sight of Deno's loader, which would wait for JSR before the clock runs.
 *
 * @module
 */

setTimeout(() => Deno.exit(3), 4000);
try {
  for (const name of ["@std/assert", "@std/cli/parse-args"]) await import(name);
} catch {
  Deno.exit(3);
}
Deno.exit(0);
