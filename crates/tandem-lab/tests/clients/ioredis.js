// ioredis behind Sentinels: a write every 20 ms, as an application would make it.
//
// Arguments: the group, then HOST:PORT of each Sentinel. A line for each write: `ok NUMBER` or `error WORDS`.

const Redis = require("ioredis");

const [name, ...addresses] = process.argv.slice(2);
const sentinels = addresses.map((address) => {
  const [host, port] = address.split(":");
  return { host, port: Number(port) };
});
const redis = new Redis({
  name,
  sentinels,
  connectTimeout: 500,
  commandTimeout: 1000,
  sentinelRetryStrategy: () => 50,
  retryStrategy: () => 50,
});
redis.on("error", (error) => console.log("error", error.message));

async function main() {
  const end = Date.now() + 90000;
  for (let number = 1; Date.now() < end; number += 1) {
    try {
      await redis.set(`client:${number}`, number);
      console.log("ok", number);
    } catch (error) {
      console.log("error", error.message);
    }
    await new Promise((done) => setTimeout(done, 20));
  }
  process.exit(0);
}

main();
