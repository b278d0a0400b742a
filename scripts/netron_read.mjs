// What Netron's own code makes of a container, as JSON on standard output.
//
//   node scripts/netron_read.mjs NETRON FILE.dlc
//
// NETRON is the folder of the installed Python package (it holds view.js). The
// file goes through Netron's format detection like one opened in its window.
// Netron's DLC reader drops quantization records; they are read here with the
// schema that Netron decodes the file by, so no line of ours is between the
// bytes and what is printed:
//
//   { format, nodes: [{name, type, inputs: [tensor name], outputs}],
//     tensors: { name: {type, shape, initializer: {bytes, fnv1a} | null} },
//     records: { name: {location, kind, overridden, axis, channels: [
//                {bitwidth, min, max, scale, offset}]} } }
//
// `tensors` is Netron's view, of tensors that a node uses; `records` has all.
// Exit code 0 when Netron opened the file, 1 with a message when not, 64 usage.

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

// Netron's scripts are modules, which Node believes only of a package that
// says so: copies of them go beside such a package file.
const copyPackage = (netron, folder) => {
    for (const name of fs.readdirSync(netron)) {
        if (/\.(js|json)$/.test(name)) {
            fs.copyFileSync(path.join(netron, name), path.join(folder, name));
        }
    }
    fs.writeFileSync(path.join(folder, 'package.json'), '{"type": "module"}');
};

const openFile = (node, file) => {
    const { size, mtimeMs } = fs.statSync(file);
    return new node.FileStream(file, 0, size, mtimeMs);
};

const openModel = async (folder, require, node, file, complaints) => {
    const asset = (name) => fs.promises.readFile(path.join(folder, name), 'utf-8');
    const exception = (error) => complaints.push(error?.message ?? String(error));
    const host = { type: 'Test', environment: () => null, event: () => {}, exception, require, asset };
    const { ModelFactoryService } = await require('./view');
    return new ModelFactoryService(host).open({
        identifier: path.basename(file),
        stream: openFile(node, file),
        entries: new Map(),
        error: exception,
        require,
        asset,
        fetch: async (name) => {
            throw new Error(`Netron looked for another file, '${name}'.`);
        }
    });
};

// FNV-1a of 64 bits, as `qinspect text` prints it.
const digest = (values) => {
    const bytes = values ?? new Uint8Array(0);
    let hash = 0xcbf29ce484222325n;
    for (const byte of bytes) {
        hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
    }
    return { bytes: bytes.byteLength, fnv1a: hash.toString(16) };
};

const describe = (graph) => {
    const tensors = {};
    const names = (groups) => groups.flatMap((group) => group.value).map((value) => {
        tensors[value.name] = {
            type: value.type?.dataType ?? null,
            shape: value.type ? Array.from(value.type.shape.dimensions, Number) : null,
            initializer: value.initializer ? digest(value.initializer.values) : null
        };
        return value.name;
    });
    const nodes = graph.nodes.map((node) => ({
        name: node.name,
        type: node.type.name,
        inputs: names(node.inputs),
        outputs: names(node.outputs)
    }));
    return { nodes, tensors };
};

// Byte 4 is the minor version: 1 where numbers lie in model.params.bin.
const HEADER = [0xd5, 0x0a, 4, 0, null, 0, 0, 0];

const readRecords = async (require, node, file) => {
    const [zip, flatbuffers, schema] =
        await Promise.all(['./zip', './flatbuffers', './dlc-schema'].map(require));
    const bytes = zip.Archive.open(openFile(node, file), 'zip').entries.get('model').peek();
    if (HEADER.some((byte, index) => byte !== null && bytes[index] !== byte)) {
        throw new Error('The header of the model is not that of generation 4.');
    }
    const reader = flatbuffers.BinaryReader.open(bytes.slice(HEADER.length));
    const grid = (table) => ({
        bitwidth: table.i1, min: table.f1, max: table.f2, scale: table.f3, offset: table.i2
    });
    const records = {};
    for (const graph of schema.dlc.v4.Model.decode(reader, reader.root).graphs) {
        for (const { name, location, info } of graph.tensors) {
            const list = info?.b ? info.b.l : info?.a ? [info.a] : [];
            records[name] = {
                location,
                kind: info ? info.i1 : null,
                overridden: info ? info.b1 !== 0 : false,
                axis: info?.b ? info.b.i1 : null,
                channels: list.map(grid)
            };
        }
    }
    return records;
};

const main = async (netron, file) => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'netron-'));
    try {
        copyPackage(netron, folder);
        const require = (id) =>
            import(pathToFileURL(path.join(folder, id.endsWith('.js') ? id : `${id}.js`)).href);
        const node = await require('./node');
        const complaints = [];
        const model = await openModel(folder, require, node, file, complaints);
        if (complaints.length > 0) {
            throw new Error(complaints.join(' '));
        }
        const graphs = model.modules ?? [];
        if (graphs.length !== 1) {
            throw new Error(`Netron shows ${graphs.length} graphs.`);
        }
        const records = await readRecords(require, node, file);
        console.log(JSON.stringify({ format: model.format, ...describe(graphs[0]), records }));
        return 0;
    } catch (error) {
        console.error(`netron_read.mjs: error: ${error.message}`);
        return 1;
    } finally {
        fs.rmSync(folder, { recursive: true, force: true });
    }
};

const [netron, file, ...rest] = process.argv.slice(2);
if (!file || rest.length > 0 || !fs.existsSync(path.join(netron, 'view.js'))) {
    console.error('usage: node netron_read.mjs NETRON FILE.dlc');
    process.exitCode = 64;
} else {
    process.exitCode = await main(netron, path.resolve(file));
}
