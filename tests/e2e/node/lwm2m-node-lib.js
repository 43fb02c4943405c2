// A device made with lwm2m-node-lib: object 3303 with a value that changes ten times a second.
// Arguments: host port endpoint. Says "registered" on standard output.
'use strict';

const config = require('lwm2m-node-lib/config.js');
const client = require('lwm2m-node-lib').client;
const [host, port, endpoint] = process.argv.slice(2);

config.client.lifetime = '300';
config.client.logLevel = 'FATAL';
// It does not answer a request in a format it was not told of.
config.client.formats.push({ name: 'application/vnd.oma.lwm2m+tlv', value: 11542 });
client.init(config);

let value = 21;

function fail(error) {
  console.error(error);
  process.exit(1);
}

client.registry.create('/3303/0', (error) => {
  if (error) fail(error);
  client.registry.setResource('/3303/0', '5700', String(value), () => {
    client.registry.setResource('/3303/0', '5750', 'roof', () => {
      client.register(host, port, '', endpoint, (error, device) => {
        if (error) fail(error);
        const server = device.serverInfo;
        const pass = (type, id, resource, value, callback) => callback(null);
        client.setHandler(server, 'read', pass);
        client.setHandler(server, 'write', (type, id, resource, written, callback) => {
          console.log(`written ${type}/${id}/${resource} ${Buffer.from(String(written)).toString('hex')}`);
          callback(null);
        });
        client.setHandler(server, 'execute', (type, id, resource, args, callback) => {
          console.log(`executed ${type}/${id}/${resource}`);
          callback(null);
        });
        console.log('registered');
        setInterval(() => {
          value += 1;
          client.registry.setResource('/3303/0', '5700', String(value), () => {});
        }, 300);
      });
    });
  });
});
