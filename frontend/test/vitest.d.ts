declare module "vitest" {
  interface ProvidedContext {
    server: string;
  }
}

export {};
