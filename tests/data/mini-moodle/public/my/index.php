<?php
// For whoever has logged in, on whichever node.
declare(strict_types=1);
require __DIR__ . '/../../config.php';

if (!isset($_SESSION['user'])) {
    header("Location: {$CFG->wwwroot}/login/index.php", true, 303);
    exit;
}
$_SESSION['pages'] = ($_SESSION['pages'] ?? 0) + 1;
// What the page says is a promise, so it is kept first.
if (!session_write_close()) {
    http_response_code(503);
    exit("the session is not stored\n");
}
header('Content-Type: application/json');
echo json_encode(['node' => gethostname(), 'user' => $_SESSION['user'], 'pages' => $_SESSION['pages']]), "\n";
