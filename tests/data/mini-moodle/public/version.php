<?php
// A test makes another version of the code by changing this number.
$version = 2026100500.00;
$release = 'mini 1.0';
