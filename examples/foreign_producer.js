// Adds three orders to the set "example-orders" with node, and without any library: see foreign_producer.py.
//
//   node foreign_producer.js SOCKET          node foreign_producer.js PORT HOST

const net = require("net");

const connection = net.connect(...process.argv.slice(2));
const send = (...words) =>
  connection.write(`*${words.length}\r\n` + words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join(""));

let number = 0;
const timer = setInterval(() => {
  const id = `node-${++number}`;
  const order = { id, sent: Date.now() / 1000 };
  send("HSET", "{example-orders}:values", id, JSON.stringify(order));
  send("ZADD", "example-orders", "NX", String(number), id);
  send("ZADD", "example-orders", "NX", String(number), id);
  if (number === 3) {
    clearInterval(timer);
    connection.end();
  }
}, 400);

connection.on("data", (replies) => {
  if (/^-/m.test(replies)) throw new Error(replies);
});
