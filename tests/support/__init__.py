"""Helpers of the tests."""

import functools

import botocore.session

# Every session of boto3 reads what AWS's services are from hundreds of files, and Strands makes one for each Swarm.
botocore.session.create_loader = functools.cache(botocore.session.create_loader)
