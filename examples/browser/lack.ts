/**
 * What a person can do where nothing can be trained.
 *
 * @module
 */

import type { Lack } from "./messages.ts";

/** What is missing, and what helps. */
export interface Advice {
  readonly title: string;
  /** Sentences, the first ones first. */
  readonly steps: readonly string[];
}

/** What turns WebGPU on, by browser; the first whose name is in the user agent. */
const BROWSERS: readonly (readonly [pattern: RegExp, name: string, steps: readonly string[]])[] = [
  [/Firefox\//, "Firefox", [
    "Take Firefox 141 or later on Windows, or 145 or later on a Mac with Apple silicon: WebGPU is on there.",
    'Elsewhere open "about:config", set "dom.webgpu.enabled" to true, and load this page again.',
  ]],
  [/Edg\//, "Edge", [
    "Take Edge 113 or later.",
    'See that "Use graphics acceleration when available" is on in Settings, System and performance.',
    'On Linux open "edge://flags/#enable-unsafe-webgpu", choose Enabled, and start Edge again.',
  ]],
  [/Chrom(e|ium)\//, "Chrome", [
    "Take Chrome 113 or later, on Android 121 or later.",
    'See that "Use graphics acceleration when available" is on in Settings, System.',
    'On Linux open "chrome://flags/#enable-unsafe-webgpu", choose Enabled, and start Chrome again.',
  ]],
  [/Safari\//, "Safari", [
    "Take Safari 26 or later: WebGPU is on there.",
    'In Safari 18 turn on Settings, Advanced, "Show features for web developers", then Feature Flags, "WebGPU".',
  ]],
];

/**
 * Says what to do.
 *
 * @param lack What is missing
 * @param userAgent `navigator.userAgent`
 * @param detail What the library said
 * @returns The advice
 */
export function adviceOn(lack: Lack, userAgent: string, detail = ""): Advice {
  if (lack === "secure") {
    return {
      title: "This address is not a safe one, so the browser offers no WebGPU",
      steps: ["Open the page as http://127.0.0.1 or http://localhost, or serve it by https."],
    };
  }
  if (lack === "folder") {
    return {
      title: "This page is open in another tab",
      steps: [
        "A run uses a folder of its own: go on in that tab, or close it and load this page again.",
        detail,
      ],
    };
  }
  const [, name, steps] = BROWSERS.find(([pattern]) => pattern.test(userAgent)) ??
    [null, "This browser", ["Take a recent Chrome, Edge, Firefox or Safari."]];
  return {
    title: lack === "webgpu" ? `${name} does not offer WebGPU here` : `${name} finds no GPU for WebGPU`,
    steps: [
      ...lack === "adapter" ? ["See that the driver of the graphics card is up to date."] : [],
      ...steps,
      'Or train without a browser: "./firn finetune" runs on Deno.',
    ],
  };
}
