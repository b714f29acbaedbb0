// A master and two workers of node's cluster module; each request takes 20 ms, in which its worker
// serves others. TERM is handled as people usually write it: the master disconnects its workers.
const cluster = require("node:cluster");
const http = require("node:http");

if (cluster.isPrimary) {
  cluster.fork();
  cluster.fork();
  let stopping = false;
  process.on("SIGTERM", () => {
    stopping = true;
    for (const worker of Object.values(cluster.workers)) worker.disconnect();
  });
  // A worker that dies is replaced.
  cluster.on("exit", () => stopping || cluster.fork());
} else {
  // Where TERM reaches the workers as well, the stop is left to the master.
  process.on("SIGTERM", () => {});
  http
    .createServer((_request, response) => {
      setTimeout(() => response.writeHead(200, { "content-type": "text/plain" }).end("slept\n"), 20);
    })
    .listen(Number(process.env.PORT), "127.0.0.1");
}
