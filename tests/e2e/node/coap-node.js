// A device made with coap-node: two temperature sensors, one of them changing.
// Arguments: host port endpoint. Says "registered" on standard output.
'use strict';

// Without this the package asks the machine for its active network interface, which a build
// machine need not have; it is the package's own test mode.
process.env.npm_lifecycle_event = 'test';

const CoapNode = require('coap-node');
const SmartObject = require('smartobject');
const [host, port, endpoint] = process.argv.slice(2);

const objects = new SmartObject();
let value = 21;
objects.init(3303, 0, {
  5700: value,
  5701: 'C',
  5750: 'roof',
  5605: {
    exec: (...args) => {
      console.log('executed 3303/0/5605');
      args[args.length - 1](null);
    },
  },
});
objects.init(3303, 1, { 5700: 70, 5701: 'F' });

const node = new CoapNode(endpoint, objects, { lifetime: 300, version: '1.0.0' });
node.on('error', (error) => console.error(error));
node.on('registered', () => console.log('registered'));
node.register(host, Number(port), (error, answer) => {
  console.log('answer', error, answer && answer.status);
});
setInterval(() => {
  value += 1;
  objects.write(3303, 0, 5700, value, () => {});
}, 300);
