/**
 * What breaks a rule of the architecture today: how many offences a file has. No file may have more, and one that
 * has none left must leave the list. Every list must be empty in the end.
 *
 * @module
 */

/** The count of offences by rule and by file. */
export const STILL_OPEN: Readonly<
  Record<
    "circles" | "layers" | "functions" | "machine" | "names" | "comparisons" | "state",
    Readonly<Record<string, number>>
  >
> = {
  "circles": {},
  "layers": {},
  "functions": {},
  "machine": {},
  "names": {},
  "comparisons": {},
  "state": {},
};
