<?php
// Files of the site: POST takes one, GET /pluginfile.php/SHA1 hands it out.
declare(strict_types=1);
require __DIR__ . '/../config.php';

/** Below filedir, as Moodle lays files out. */
function path_of(string $sha1): string
{
    return 'filedir/' . substr($sha1, 0, 2) . '/' . substr($sha1, 2, 2) . "/$sha1";
}

if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    $upload = $_FILES['file']['tmp_name'] ?? '';
    is_uploaded_file($upload) || throw new Exception('no file');
    $sha1 = sha1_file($upload);
    $path = "{$CFG->dataroot}/" . path_of($sha1);
    is_dir(dirname($path)) || mkdir(dirname($path), $CFG->directorypermissions, true);
    move_uploaded_file($upload, $path);
    $DB->write('REPLACE INTO {files} (contenthash, node) VALUES (?, ?)', [$sha1, gethostname()]);
    // Read from this request's own write, wherever that has to be.
    $stored = $DB->read('SELECT node FROM {files} WHERE contenthash = ?', [$sha1])[0]['node'];
    echo "$sha1 $stored ", dirname($upload), "\n";
    exit;
}

$sha1 = basename($_SERVER['PATH_INFO'] ?? '');
if ($DB->read('SELECT 1 FROM {files} WHERE contenthash = ?', [$sha1]) === []) {
    http_response_code(404);
    exit;
}
header('Content-Type: application/octet-stream');
$alias = array_search($CFG->dataroot, $CFG->xsendfilealiases, true);
header("{$CFG->xsendfile}: " . rawurlencode($alias . path_of($sha1)));
