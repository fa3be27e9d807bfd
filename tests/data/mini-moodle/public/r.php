<?php
// The router: what is no file ends here.
declare(strict_types=1);
require __DIR__ . '/../config.php';

echo 'routed ', strtok($_SERVER['REQUEST_URI'], '?'), "\n";
