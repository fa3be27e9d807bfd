<?php
// Answers /healthz/ready: 200 while this node wants requests, 404 while it is being drained (HAProxy's
// `http-check disable-on-404`: finish what is under way), 503 otherwise.
declare(strict_types=1);

require __DIR__ . '/node.php';

header('Content-Type: text/plain');
header('Cache-Control: no-store');
if (is_file(DRAIN)) {
    http_response_code(404);
    echo "draining\n";
} elseif (($obstacle = obstacle()) !== null) {
    http_response_code(503);
    echo "$obstacle\n";
} else {
    echo "ready\n";
}
