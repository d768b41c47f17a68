"""Makes ``twistd mesh`` known; imports nothing of the mesh until it is asked for."""

from twisted.application.service import ServiceMaker

mesh = ServiceMaker("mesh", "twisted_mesh.tap", "A node of an alert and messaging mesh.", "mesh")
