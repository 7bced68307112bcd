/**
 * The commands of Firn: what `./firn help` lists, and which program each of them is.
 *
 * @module
 */

/** A command. */
export interface Command {
  /** What it does, for the list. */
  readonly about: string;
  /** Its program, from the folder of the package. */
  readonly script: string;
  /** Whether it writes files; with false it reads only. */
  readonly writes?: false;
  /** Whom it talks to: programs of this machine, or a hub of models. */
  readonly net?: "loopback" | "hub";
  /** Whether its first arguments are models, adapters and files: how many, the last one being written. */
  readonly places?: number;
  /** Whether its first argument is a model. */
  readonly model?: true;
  /** Whether all arguments that are no flags are folders that it reads. */
  readonly folders?: true;
  /** Whether what it writes is one folder, which is made beside its place at first. */
  readonly beside?: true;
  /** A program that it runs. */
  readonly run?: string;
  /** Whether it is told of the NVIDIA driver, and runs PyTorch on request. */
  readonly measures?: true;
  /** Whether several processes can do it together, each a share of every batch. */
  readonly ranks?: true;
  /** Whether only a copy of the repository has it. */
  readonly development?: true;
}

/** The commands by name, as they are listed. */
export const COMMANDS: Readonly<Record<string, Command>> = {
  finetune: {
    about: "fine-tune a Hugging Face checkpoint (--help lists its flags)",
    script: "examples/finetune.ts",
    ranks: true,
  },
  pretrain: { about: "train a small model from nothing", script: "examples/pretrain.ts", ranks: true },
  digits: {
    about: "train an MLP, an MLP-mixer, a vision transformer or a convolutional net on handwritten digits",
    script: "examples/digits.ts",
    ranks: true,
  },
  ssm: {
    about: "train a state-space model on the characters of a text",
    script: "examples/ssm.ts",
    writes: false,
  },
  classify: {
    about: "fine-tune a model to tell spam from other mail, or to tell your own labels apart",
    script: "examples/classify.ts",
    ranks: true,
    beside: true,
  },
  vision: {
    about: "train a ViT on handwritten digits",
    script: "examples/vision.ts",
    ranks: true,
    beside: true,
  },
  vlm: {
    about: "train a small SmolVLM to answer questions about handwritten digits",
    script: "examples/vlm.ts",
    ranks: true,
    beside: true,
  },
  lora: {
    about: "train a LoRA adapter on prompts and completions",
    script: "examples/lora.ts",
    ranks: true,
    beside: true,
  },
  merge: { about: "merge a LoRA adapter into its model", script: "examples/merge.ts", places: 3 },
  export: {
    about: "write a model or a LoRA adapter as a GGUF file for llama.cpp",
    script: "examples/export.ts",
    places: 2,
  },
  generate: {
    about: 'continue a text: ./firn generate MODEL "PROMPT"',
    script: "examples/generate.ts",
    model: true,
  },
  chat: {
    about: "talk with a model in the terminal: ./firn chat MODEL",
    script: "examples/converse.ts",
    model: true,
  },
  evaluate: {
    about: "perplexity, multiple choice or classes of a model: ./firn evaluate MODEL --data FILE",
    script: "examples/evaluate.ts",
    model: true,
  },
  embed: {
    about: 'search texts by the hidden states of a model: ./firn embed "QUERY"',
    script: "examples/embed.ts",
  },
  serve: {
    about: "answer as the chat and completion routes of OpenAI do, on this machine: ./firn serve MODEL",
    script: "examples/serve.ts",
    model: true,
    net: "loopback",
  },
  watch: {
    about: "serve a page that follows a run: ./firn watch FOLDER",
    script: "examples/watch.ts",
    writes: false,
    folders: true,
    net: "loopback",
  },
  compare: {
    about: "compare runs on one page: ./firn compare out/*",
    script: "examples/compare.ts",
    folders: true,
    beside: true,
  },
  simulate: {
    about: "replay freeze policies over a run, without training: ./firn simulate FOLDER --policy gradES,auto",
    script: "examples/simulate.ts",
    folders: true,
    beside: true,
  },
  browser: {
    about: "serve a page on this machine that fine-tunes in a browser",
    script: "examples/browser.ts",
    net: "loopback",
    run: "deno",
    development: true,
  },
  explain: {
    about: "show what a run froze, why, and what that saved",
    script: "examples/explain.ts",
    writes: false,
    folders: true,
  },
  push: {
    about: "upload a model or an adapter to the hub, with a card that tells how it was trained",
    script: "examples/push.ts",
    net: "hub",
  },
  download: {
    about: "bring a model or data of a hub here, or ask for what is new in it",
    script: "examples/download.ts",
    net: "hub",
  },
  bench: {
    about: "time training steps beside jax-js and, with --torch, PyTorch",
    script: "tests/bench/main.ts",
    measures: true,
    development: true,
  },
  profile: {
    about:
      "show where a training step spends its time, or with --model one of generation, and how near the roofline",
    script: "tests/bench/profile.ts",
    measures: true,
    development: true,
  },
  conformance: {
    about: "compare models and runs with reference results",
    script: "tests/conformance.ts",
    writes: false,
    folders: true,
    development: true,
  },
};
