import { startServer } from "./server.js";

/** One misbehaving server for every suite of a run. @param {import("vitest/node").TestProject} project */
export default async function setup(project) {
  const server = await startServer();
  project.provide("server", server.url);
  return server.stop;
}
