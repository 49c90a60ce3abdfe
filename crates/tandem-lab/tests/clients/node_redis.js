// node-redis behind Sentinels: a write every 20 ms, as an application would make it.
//
// Arguments: the group, then HOST:PORT of each Sentinel. A line for each write: `ok NUMBER` or `error WORDS`.

const { createSentinel } = require("redis");

const [name, ...addresses] = process.argv.slice(2);
const sentinelRootNodes = addresses.map((address) => {
  const [host, port] = address.split(":");
  return { host, port: Number(port) };
});
const sentinel = createSentinel({
  name,
  sentinelRootNodes,
  scanInterval: 500,
  nodeClientOptions: { socket: { connectTimeout: 500 } },
  sentinelClientOptions: { socket: { connectTimeout: 500 } },
});
sentinel.on("error", (error) => console.log("error", error.message));

function within(milliseconds, work) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("no answer in time")), milliseconds);
  });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}

async function main() {
  await sentinel.connect();
  const end = Date.now() + 90000;
  for (let number = 1; Date.now() < end; number += 1) {
    try {
      await within(1000, sentinel.set(`client:${number}`, String(number)));
      console.log("ok", number);
    } catch (error) {
      console.log("error", error.message);
    }
    await new Promise((done) => setTimeout(done, 20));
  }
  process.exit(0);
}

main().catch((error) => {
  console.log("error", error.message);
  process.exit(1);
});
